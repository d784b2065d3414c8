"""signing: whose keys are these?  Ed25519 signatures (RFC 8032), so that the server cannot put its own in between."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["identity_of", "sign", "verifies"]


def identity_of(private: bytes) -> str:
    """The public half of a site's identity, as it stands in the protocol: 64 hexadecimal digits."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw().hex()


def sign(private: bytes, words: bytes) -> bytes:
    """64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(words)


def verifies(identity: str, words: bytes, signature: bytes) -> bool:
    """Whether the owner of `identity` signed these words; False for anything malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(identity)).verify(signature, words)
    except (InvalidSignature, ValueError):
        return False
    return True
