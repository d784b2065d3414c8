"""group_tests: the paper's tests (R37-R39): chi-square and Fisher for counts; for measures the tree

normal in both groups (Shapiro-Wilk)? -> equal variances (Levene, median)? -> Student : Welch
-> no: Wilcoxon rank-sum with tie correction
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from common.metrics.rank_sum import RankSum, rank_sum

__all__ = ["CountTest", "MeasureTest", "RankSum", "compare_counts", "compare_measures", "rank_sum"]

GATE = 0.05
Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class CountTest:
    """Pearson's chi-square without continuity correction (which reproduces the paper), and Fisher's P."""

    chi_square: float
    p: float
    fisher_p: float
    smallest_expected: float


@dataclass(frozen=True)
class MeasureTest:
    """test: student, welch or rank-sum; describe: mean +- SD, or median (Q1, Q3), of each group."""

    test: str
    statistic: float
    p: float
    describe: tuple[str, str]


def compare_counts(table: np.ndarray[Any, Any]) -> CountTest:
    """A 2 x 2 table of counts."""
    counts = np.asarray(table, float)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / counts.sum()
    if expected.min() == 0:
        return CountTest(0.0, 1.0, 1.0, 0.0)
    result = stats.chi2_contingency(counts, correction=False)
    return CountTest(
        float(result.statistic), float(result.pvalue), float(stats.fisher_exact(counts)[1]), float(expected.min())
    )


def compare_measures(first: Values, second: Values) -> MeasureTest:
    """A measured variable in two groups of at least three."""
    normal = all(np.ptp(g) > 0 and stats.shapiro(g).pvalue > GATE for g in (first, second))
    if not normal:
        result = rank_sum(first, second)
        return MeasureTest("rank-sum", result.z, result.p, (_median(first), _median(second)))
    equal = stats.levene(first, second, center="median").pvalue > GATE
    test = stats.ttest_ind(first, second, equal_var=equal)
    describe = tuple(f"{g.mean():.1f} ± {g.std(ddof=1):.1f}" for g in (first, second))
    return MeasureTest(
        "student" if equal else "welch", float(test.statistic), float(test.pvalue), (describe[0], describe[1])
    )


def _median(values: Values) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.1f} ({low:.1f}, {high:.1f})"
