"""ngtdm: how far each voxel's grey level is from the mean of its neighbours (Amadasun and King 1989).

n(i): voxels of level i; N their sum; p = n / N; s(i): sum over them of |i - mean of the neighbours|; L levels.

    Coarseness 1 / sum p s                                     (10^6 where the sum is 0)
    Contrast   sum_ij p_i p_j (i - j)^2 / (L (L - 1)) * sum s / N                    (0 for one level)
    Busyness   sum p s / sum_ij |i p_i - j p_j|                                      (0 for one level)
    Complexity sum_ij |i - j| (p_i s_i + p_j s_j) / (p_i + p_j) / N
    Strength   sum_ij (p_i + p_j) (i - j)^2 / sum s                                  (0 where the sum is 0)

A voxel without neighbours counts with difference 0.  Source: PyRadiomics 3.0.1; IBSI 1, section 3.10.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from client.features.engine.grey_levels import GreyLevels

__all__ = ["NGTDM", "Ngtdm"]


class Ngtdm:
    """total: (N,) sum of the neighbours' levels, from `look_around`; neighbours: (N,) how many are inside."""

    def __init__(self, levels: GreyLevels, total: NDArray[np.int64], neighbours: NDArray[np.int64]) -> None:
        own = np.concatenate([[0], levels.values])[levels.rank].astype(np.float64)
        mean = np.divide(total, neighbours, out=own.copy(), where=neighbours > 0)
        apart = np.abs(own - mean)
        self.i = levels.values.astype(np.float64)
        self.s = np.bincount(levels.rank, weights=apart, minlength=len(levels) + 1)[1:]
        self.n = len(apart)
        self.p = levels.counts / self.n

    @cached_property
    def apart(self) -> NDArray[np.float64]:
        """I - j."""
        return self.i[:, None] - self.i[None]

    @cached_property
    def both(self) -> NDArray[np.float64]:
        """p_i + p_j."""
        return self.p[:, None] + self.p[None]

    def coarseness(self) -> float:
        """Small where neighbours differ."""
        total = float(np.sum(self.p * self.s))
        return 1 / total if total else 1e6

    def contrast(self) -> float:
        """Spread of the levels times the difference between neighbours."""
        pairs = len(self.i) * (len(self.i) - 1)
        spread = np.sum(self.p[:, None] * self.p[None] * self.apart**2)
        return float(spread * self.s.sum() / self.n / pairs) if pairs else 0.0

    def busyness(self) -> float:
        """Quick changes between a voxel and its neighbours."""
        weighted = self.i * self.p
        apart = float(np.abs(weighted[:, None] - weighted[None]).sum())
        return float(np.sum(self.p * self.s)) / apart if apart else 0.0

    def complexity(self) -> float:
        """Many and sharp changes."""
        product = self.p * self.s
        return float(np.sum(np.abs(self.apart) * (product[:, None] + product[None]) / self.both) / self.n)

    def strength(self) -> float:
        """Clear primitives: large differences of level, slow change."""
        total = float(self.s.sum())
        return float(np.sum(self.both * self.apart**2)) / total if total else 0.0


NGTDM: dict[str, Callable[[Ngtdm], float]] = {
    "Busyness": Ngtdm.busyness,
    "Coarseness": Ngtdm.coarseness,
    "Complexity": Ngtdm.complexity,
    "Contrast": Ngtdm.contrast,
    "Strength": Ngtdm.strength,
}
