"""rank_sum: Wilcoxon's rank-sum with the tie correction, from values or from counts per cell (R37, F8).

The statistic needs only how many of each group lie in each cell and the order of the cells.

Law: from exact cells (`score_search` with ties="all", or a value histogram) equal to scipy's asymptotic
`mannwhitneyu` without continuity correction; from a histogram every cell counts as one tie.
Disclosure: nothing beyond the cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from common.metrics.score_cells import ScoreCells

__all__ = ["RankSum", "rank_sum", "rank_sum_of_cells", "rank_sum_of_counts", "u_and_variance"]

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RankSum:
    """u: pairs in which a value of the first group exceeds one of the second, ties one half; z is
    tie-corrected and without continuity correction, negative where the first group is lower; p two-sided.
    """

    u: float
    z: float
    p: float


def rank_sum(first: Values, second: Values) -> RankSum:
    """From the values of both groups; z 0 where a group is empty or all values are equal."""
    both = np.concatenate([first, second])
    place = np.unique(both, return_inverse=True)[1]
    cells = int(place.max(initial=0)) + 1
    return rank_sum_of_counts(
        np.bincount(place[: len(first)], minlength=cells), np.bincount(place[len(first) :], minlength=cells)
    )


def rank_sum_of_cells(cells: ScoreCells) -> RankSum:
    """Margins of the altered against those of the not altered; z is negative where the altered score lower."""
    return rank_sum_of_counts(cells.altered, cells.not_altered)


def rank_sum_of_counts(first: Values, second: Values) -> RankSum:
    """Cases per cell of each group, cells in rising order."""
    u, variance = u_and_variance(first, second)
    n, m = int(first.sum()), int(second.sum())
    z = (u - n * m / 2) / np.sqrt(variance) if variance > 0 else 0.0
    return RankSum(u, float(z), float(2 * stats.norm.sf(abs(z))))


def u_and_variance(first: Values, second: Values) -> tuple[float, float]:
    """Mann and Whitney's U of the first group and its tie-corrected variance under no difference."""
    n, m = float(first.sum()), float(second.sum())
    total = n + m
    u = float(first @ (np.cumsum(second) - second / 2))
    if min(n, m) == 0:
        return u, 0.0
    tied = (first + second).astype(float)
    variance = n * m / 12 * (total + 1 - float((tied**3 - tied).sum()) / (total * (total - 1)))
    return u, max(variance, 0.0)
