"""noise: random numbers for differential privacy, that nobody without the key can tell from true ones.

AES-256 in counter mode makes the stream (the `cryptography` package).  Opacus' own secure mode needs torchcsprng, which
our environment does not have, and torch's generator on a processor takes 32 bits of its seed (7 and 7 + 2^32 give the
same numbers in torch 2.13): they can be tried out.

Guarantee: whoever does not have the 32-byte key cannot predict the numbers unless AES is broken.  Not defended: the
floating-point grid.  A Gaussian in double precision has gaps by which an exact release could be told from its
neighbour (Mironov 2012, doi 10.1145/2382196.2382264); four draws are added up for each number, which makes the search
for them impracticable (Holohan and Braghin 2021, arXiv 2107.10138), and updates are rounded to 32 bits or fewer
before they leave.  Neither is a proof, as discrete noise would be; the time that a step takes is not hidden either.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy.special import ndtri

__all__ = ["KEY_BYTES", "NoiseStream", "repeatable_key"]

KEY_BYTES = 32
DRAWS = 4
"""For each Gaussian number."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


class NoiseStream:
    """One key serves one stream: the same key gives the same numbers."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes; take {KEY_BYTES}")
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def uniform(self, count: int) -> Floats:
        """In (0, 1), 53 bits each."""
        words = np.frombuffer(self._cipher.update(bytes(8 * count)), np.dtype("<u8"))
        return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def gaussian(self, count: int, deviation: float) -> Floats:
        """Of mean 0."""
        draws = ndtri(self.uniform(DRAWS * count)).reshape(DRAWS, count)
        found: Floats = draws.sum(axis=0) * (deviation / math.sqrt(DRAWS))
        return found

    def gumbel(self, count: int, scale: float) -> Floats:
        """The standard distribution times `scale`; only their order may leave, for which the grid does not matter."""
        found: Floats = -scale * np.log(-np.log(self.uniform(count)))
        return found


def repeatable_key(seed: int, *name: str | int) -> bytes:
    """Of a simulation's stream: whoever knows the protocol's seed can take the noise away again."""
    return hashlib.sha256("\x1f".join(["repeatable noise", str(seed), *map(str, name)]).encode()).digest()
