"""level_by_size: the sixteen features that runs, zones and dependences have in common.

P(i, j): how many runs (zones, voxels) have grey level i and length (size, number of dependent neighbours) j;
n its sum, per direction; p = P / n.

    small emphasis sum P / j^2 / n            large emphasis sum P j^2 / n
    low grey level sum P / i^2 / n            high grey level sum P i^2 / n           and the four products
    level non-uniformity sum_i (sum_j P)^2 / n, normalised: / n^2                     the same over sizes
    percentage n / sum P j                    level variance, size variance and entropy of p

Source: Galloway 1975 (runs), Thibault 2009 (zones), Sun and Wee 1983 (dependences); IBSI 1, sections 3.7-3.11.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.features.engine.first_order import EPSILON

__all__ = ["LEVEL_BY_SIZE", "LevelBySize"]

Matrix = NDArray[np.float64]


class LevelBySize:
    """counts: (angles, levels, sizes), every angle with at least one entry; levels, sizes: their values."""

    def __init__(self, counts: Matrix, levels: NDArray[Any], sizes: NDArray[Any]) -> None:
        self.counts = counts
        self.i = levels.astype(np.float64)
        self.j = sizes.astype(np.float64)
        self.n = counts.sum(axis=(1, 2))

    @cached_property
    def by_level(self) -> Matrix:
        """(angles, levels)."""
        return self.counts.sum(axis=2)

    @cached_property
    def by_size(self) -> Matrix:
        """(angles, sizes)."""
        return self.counts.sum(axis=1)

    def emphasis(self, *, level: int = 0, size: int = 0) -> Matrix:
        """Sum P i^level j^size / n."""
        if not level:
            return self.by_size @ self.j**size / self.n
        by_level = self.by_level if not size else self.counts @ self.j**size
        return by_level @ self.i**level / self.n

    def entropy(self) -> Matrix:
        """- sum p log2 p."""
        p = self.counts / self.n[:, None, None]
        return np.asarray(-np.sum(p * np.log2(p + EPSILON), axis=(1, 2)))

    def variance(self, marginal: Matrix, values: NDArray[np.float64]) -> Matrix:
        """Variance of `values` under a marginal of P."""
        p = marginal / self.n[:, None]
        mean = (p @ values)[:, None]
        return np.asarray(np.sum(p * (values - mean) ** 2, axis=1))


LEVEL_BY_SIZE: dict[str, Callable[[LevelBySize], Matrix]] = {
    "small": lambda m: m.emphasis(size=-2),
    "large": lambda m: m.emphasis(size=2),
    "low": lambda m: m.emphasis(level=-2),
    "high": lambda m: m.emphasis(level=2),
    "small low": lambda m: m.emphasis(level=-2, size=-2),
    "small high": lambda m: m.emphasis(level=2, size=-2),
    "large low": lambda m: m.emphasis(level=-2, size=2),
    "large high": lambda m: m.emphasis(level=2, size=2),
    "level non-uniformity": lambda m: (m.by_level**2).sum(axis=1) / m.n,
    "level non-uniformity normalised": lambda m: (m.by_level**2).sum(axis=1) / m.n**2,
    "size non-uniformity": lambda m: (m.by_size**2).sum(axis=1) / m.n,
    "size non-uniformity normalised": lambda m: (m.by_size**2).sum(axis=1) / m.n**2,
    "percentage": lambda m: m.n / (m.by_size @ m.j),
    "level variance": lambda m: m.variance(m.by_level, m.i),
    "size variance": lambda m: m.variance(m.by_size, m.j),
    "entropy": LevelBySize.entropy,
}
