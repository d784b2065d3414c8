"""masks: streams of numbers that look random to everyone without the key; the cryptography is the `cryptography`
package's, nothing here is our own invention.

X25519 (RFC 7748) agrees on a secret, HKDF-SHA256 (RFC 5869) makes a key of it for one purpose, AES-256 in counter
mode makes the stream.  A key serves one stream, so the counter may start at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.privacy.fixed_point import RingArray, add_into, negated

__all__ = ["Mask", "add_masks", "derive_key", "public_half", "shared_secret"]

NUMBERS_AT_ONCE = 1 << 14
"""So that streams and sum stay in the processor's cache."""


@dataclass(frozen=True)
class Mask:
    """key: of 32 bytes, for this one stream."""

    key: bytes
    subtract: bool = False


def public_half(private: bytes) -> bytes:
    """Of an X25519 key; any 32 random bytes are a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def shared_secret(private: bytes, public: bytes) -> bytes:
    """The same from both ends.  ValueError for a public key of low order."""
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def derive_key(secret: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose, independent of those for any other."""
    return HKDF(SHA256(), 32, salt=None, info=f"fedmidline 1 {purpose}".encode()).derive(secret)


def add_masks(blocks: Sequence[RingArray], masks: Sequence[Mask]) -> None:
    """Add or subtract each key's stream to all numbers of all blocks, in place."""
    streams = [(Cipher(algorithms.AES(mask.key), modes.CTR(bytes(16))).encryptor(), mask.subtract) for mask in masks]
    zeros, buffer = bytes(8 * NUMBERS_AT_ONCE), bytearray(8 * NUMBERS_AT_ONCE + 15)
    for block in blocks:
        rows = max(1, NUMBERS_AT_ONCE // block.shape[1])
        for begin in range(0, len(block), rows):
            part = block[begin : begin + rows]
            for stream, subtract in streams:
                stream.update_into(zeros[: 8 * part.size], buffer)
                noise = np.frombuffer(buffer, np.dtype("<u8"), part.size).reshape(part.shape)
                if not subtract:
                    add_into(part, noise)
                elif part.shape[1] == 1:
                    np.subtract(part, noise, out=part)
                else:
                    add_into(part, negated(noise))
