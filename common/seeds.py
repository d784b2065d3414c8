"""seeds: independent random streams from (seed, site, purpose, round).

Two streams that differ in any part of their name are statistically independent and reproducible on
every machine (numpy's SeedSequence over a SHA-256 of the name), so that adding a site or a round
never changes the numbers that another site draws.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["stream", "stream_seed"]


def stream_seed(seed: int, *name: str | int) -> int:
    """A 63-bit seed for the stream called `name` under `seed`."""
    text = "\x1f".join([str(seed), *map(str, name)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """The random generator called `name` under `seed`, e.g. `stream(7, "site-a", "batches", 3)`."""
    return np.random.default_rng(stream_seed(seed, *name))
