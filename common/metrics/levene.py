"""levene: do two groups vary equally?  Levene's test in two rounds of sums (R37).

    centres   pooled mean (Levene 1960) or median (Brown and Forsythe 1974) of each group, found beforehand
    round 1   n, sum |x - centre|
    round 2   sum (|x - centre| - mean of it)^2

Law: equal to scipy's `levene` of the pooled values.  Needs sums only.
Disclosure: sums; a median as centre is one patient's value (or lies between two).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from common.arrays import CaseFlags
from common.metrics.group_moments import GroupSums, combine_sums, require_finite_values

__all__ = ["Levene", "combine_spread", "combine_sums", "finish", "summarise_spread", "summarise_sums"]

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Levene:
    """F statistic with 1 and n - 2 degrees of freedom."""

    statistic: float
    p: float


def summarise_sums(values: Floats, first: CaseFlags, centres: Floats) -> GroupSums:
    """Runs in the hospital: round 1; centres: (2,)."""
    require_finite_values(values)
    groups = _deviations(values, first, centres)
    return GroupSums(np.array([len(g) for g in groups]), np.array([g.sum() for g in groups], np.float64))


def summarise_spread(values: Floats, first: CaseFlags, centres: Floats, mean: Floats) -> Floats:
    """Runs in the hospital: round 2; mean: (2,) of the summed round 1."""
    groups = _deviations(values, first, centres)
    return np.array([((g - m) ** 2).sum() for g, m in zip(groups, mean, strict=True)], np.float64)


def combine_spread(parts: Sequence[Floats]) -> Floats:
    """Runs on the server; adds in the order given."""
    return np.asarray(np.sum(parts, axis=0), np.float64)


def finish(sums: GroupSums, spread: Floats) -> Levene:
    """Statistic 0 and P 1 where both groups are constant.  Refused `empty-group`."""
    mean, cases = sums.mean, int(sums.cases.sum())
    between = float(sums.cases @ (mean - sums.total.sum() / cases) ** 2)
    within = float(spread.sum())
    if within == 0:
        return Levene(0.0, 1.0) if between == 0 else Levene(float("inf"), 0.0)
    statistic = (cases - 2) * between / within
    return Levene(statistic, float(stats.f.sf(statistic, 1, cases - 2)))


def _deviations(values: Floats, first: CaseFlags, centres: Floats) -> tuple[Floats, Floats]:
    return np.abs(values[first] - centres[0]), np.abs(values[~first] - centres[1])
