"""group_moments: mean, spread and shape of a measured variable in two groups, from sums in two rounds.

    round 1   n, sum x                                 -> mean of each group
    round 2   sums of (x - mean)^2, ^3, ^4             -> SD, Student's and Welch's t, D'Agostino's K2

Law: equal to scipy on the pooled values to 1e-12 for any partition, because powers are taken about the pooled
means.  Needs sums only.  Disclosure: sums over at least `min_cases` cases of each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from common.arrays import CaseFlags
from common.errors import InputError, Refused
from common.metrics.normality import KSquared, k_squared

__all__ = [
    "CentralSums",
    "GroupMoments",
    "GroupSums",
    "TTest",
    "combine_central",
    "combine_sums",
    "finish",
    "require_finite_values",
    "summarise_central",
    "summarise_sums",
]

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class GroupSums:
    """cases, total: (2,) of the first and the second group."""

    cases: np.ndarray[Any, Any]
    total: Floats

    @property
    def mean(self) -> Floats:
        """(2,); Refused `empty-group`."""
        if (self.cases == 0).any():
            raise Refused(
                "empty-group",
                field="group",
                problem="One of the two groups has no case at any site.",
                fix="Compare groups that both have cases.",
            )
        return np.asarray(self.total / self.cases)


@dataclass(frozen=True)
class CentralSums:
    """powers: (2, 3) sums of (x - mean) to the powers 2, 3 and 4."""

    powers: Floats


@dataclass(frozen=True)
class TTest:
    """statistic is negative where the first group is lower; p two-sided."""

    statistic: float
    p: float


@dataclass(frozen=True)
class GroupMoments:
    """cases, mean, deviation (n - 1 in the denominator): (2,); powers as in `CentralSums`."""

    cases: np.ndarray[Any, Any]
    mean: Floats
    deviation: Floats
    powers: Floats

    def t_test(self, *, equal_variance: bool) -> TTest:
        """Student's, or Welch's; statistic 0 and p 1 where both groups are constant and equal."""
        if not self.deviation.any() and self.mean[0] == self.mean[1]:
            return TTest(0.0, 1.0)
        first, second = zip(self.mean, self.deviation, self.cases, strict=True)
        with np.errstate(divide="ignore"):
            found = stats.ttest_ind_from_stats(*first, *second, equal_var=equal_variance)
        return TTest(float(found.statistic), float(found.pvalue))

    def normality(self, group: int) -> KSquared:
        """K2 of group 0 or 1."""
        return k_squared(int(self.cases[group]), *map(float, self.powers[group]))


def summarise_sums(values: Floats, first: CaseFlags) -> GroupSums:
    """Runs in the hospital: round 1; first: whether a case is of the first group.

    InputError `value-not-finite`: a missing value is for the site to name, not to drop.
    """
    require_finite_values(values)
    groups = (values[first], values[~first])
    return GroupSums(np.array([len(g) for g in groups]), np.array([g.sum() for g in groups], np.float64))


def combine_sums(parts: Sequence[GroupSums]) -> GroupSums:
    """Runs on the server; adds in the order given."""
    return GroupSums(np.sum([p.cases for p in parts], axis=0), np.sum([p.total for p in parts], axis=0))


def summarise_central(values: Floats, first: CaseFlags, mean: Floats) -> CentralSums:
    """Runs in the hospital: round 2, about the pooled mean of each group."""
    require_finite_values(values)
    groups = (values[first] - mean[0], values[~first] - mean[1])
    return CentralSums(np.array([[(g**k).sum() for k in (2, 3, 4)] for g in groups], np.float64))


def combine_central(parts: Sequence[CentralSums]) -> CentralSums:
    """Runs on the server; adds in the order given."""
    return CentralSums(np.sum([p.powers for p in parts], axis=0))


def finish(sums: GroupSums, central: CentralSums) -> GroupMoments:
    """Refused `empty-group`, or `too-few-per-group` below two cases: no spread."""
    mean = sums.mean
    if sums.cases.min() < 2:
        raise Refused(
            "too-few-per-group",
            field="group",
            problem="One case has no spread.",
            fix="Compare groups of at least two cases.",
        )
    deviation = np.sqrt(central.powers[:, 0] / (sums.cases - 1))
    return GroupMoments(sums.cases, mean, deviation, central.powers)


def require_finite_values(values: Floats) -> None:
    """InputError `value-not-finite`."""
    broken = int((~np.isfinite(values)).sum())
    if broken:
        raise InputError(
            "value-not-finite",
            field=f"{broken} case(s)",
            problem="Values of the compared variable are missing, NaN or infinite.",
            fix="Complete the values, or exclude the cases by name.",
        )
