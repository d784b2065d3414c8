"""group_tests: the paper's tests (R37-R39): chi-square and Fisher for counts; for measures the tree

normal in both groups (Shapiro-Wilk)? -> equal variances (Levene, median)? -> Student : Welch
-> no: Wilcoxon rank-sum with tie correction

Federated, a table of counts is summed over sites and nothing changes; a whole-numbered measure comes as a
`value_histogram`; any other as `group_moments`, `levene` and `score_search`, where K2 stands for Shapiro-Wilk.
Law: equal to the same test of the pooled cases.  Disclosure: a 2 x 2 table is four cells; open those of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from common.errors import Refused
from common.metrics.group_moments import GroupMoments
from common.metrics.levene import Levene
from common.metrics.normality import normality_p
from common.metrics.rank_sum import RankSum, rank_sum
from common.metrics.value_histogram import ValueHistogram

__all__ = [
    "CategoryTest",
    "CountTest",
    "MeasureChoice",
    "MeasureTest",
    "RankSum",
    "choose_test",
    "combine_tables",
    "compare_categories",
    "compare_counts",
    "compare_histograms",
    "compare_measures",
    "compare_moments",
    "rank_sum",
]

GATE = 0.05
Values = np.ndarray[Any, np.dtype[np.float64]]
TestName = Literal["student", "welch", "rank-sum"]


@dataclass(frozen=True)
class CountTest:
    """Pearson's chi-square without continuity correction (which reproduces the paper), and Fisher's P."""

    chi_square: float
    p: float
    fisher_p: float
    smallest_expected: float


@dataclass(frozen=True)
class CategoryTest:
    """Pearson's chi-square of a larger table; below 5 expected its P is doubtful."""

    chi_square: float
    degrees: int
    p: float
    smallest_expected: float


@dataclass(frozen=True)
class MeasureTest:
    """test: student, welch or rank-sum; describe: mean +- SD, or median (Q1, Q3), of each group."""

    test: str
    statistic: float
    p: float
    describe: tuple[str, str]


@dataclass(frozen=True)
class MeasureChoice:
    """The test that the tree chose, its statistic and P."""

    test: TestName
    statistic: float
    p: float


def combine_tables(parts: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Runs on the server: sites' tables of counts, added."""
    return np.asarray(np.sum(parts, axis=0))


def compare_counts(table: np.ndarray[Any, Any]) -> CountTest:
    """A 2 x 2 table of counts."""
    counts = np.asarray(table, float)
    if counts.shape != (2, 2):
        raise ValueError(f"a table of shape {counts.shape} is not 2 x 2; use compare_categories")
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / max(counts.sum(), 1)
    if expected.min() == 0:
        return CountTest(0.0, 1.0, 1.0, 0.0)
    result = stats.chi2_contingency(counts, correction=False)
    return CountTest(
        float(result.statistic), float(result.pvalue), float(stats.fisher_exact(counts)[1]), float(expected.min())
    )


def compare_categories(table: np.ndarray[Any, Any]) -> CategoryTest:
    """A table of counts of any size, e.g. location by class.

    Refused `empty-category`: a row or column without a case would only add degrees of freedom.
    """
    counts = np.asarray(table, float)
    if not (counts.sum(axis=0).all() and counts.sum(axis=1).all()) or min(counts.shape) < 2:
        raise Refused(
            "empty-category",
            field="table",
            problem="A category has no case, or there is only one.",
            fix="Leave empty categories out, and compare at least two.",
        )
    result = stats.chi2_contingency(counts, correction=False)
    return CategoryTest(
        float(result.statistic), int(result.dof), float(result.pvalue), float(result.expected_freq.min())
    )


def choose_test(normal_p: tuple[float, float], equal_variance_p: float) -> TestName:
    """The tree of R37 from the P values of its two gates."""
    if min(normal_p) <= GATE:
        return "rank-sum"
    return "student" if equal_variance_p > GATE else "welch"


def compare_measures(first: Values, second: Values) -> MeasureTest:
    """A measured variable in two groups, both with cases; below three in one, by rank-sum."""
    normal = normality_p(first), normality_p(second)
    equal = float(stats.levene(first, second, center="median").pvalue) if min(normal) > GATE else 0.0
    name = choose_test(normal, equal)
    if name == "rank-sum":
        result = rank_sum(first, second)
        return MeasureTest(name, result.z, result.p, (_median(first), _median(second)))
    test = stats.ttest_ind(first, second, equal_var=name == "student")
    describe = tuple(f"{g.mean():.1f} ± {g.std(ddof=1):.1f}" for g in (first, second))
    return MeasureTest(name, float(test.statistic), float(test.pvalue), (describe[0], describe[1]))


def compare_histograms(histogram: ValueHistogram) -> MeasureTest:
    """As `compare_measures` of the pooled values of a whole-numbered variable, exactly."""
    return compare_measures(*histogram.groups)


def compare_moments(moments: GroupMoments, levene: Levene, ranks: RankSum) -> MeasureChoice:
    """The tree from sums, for a continuous variable; K2 is the gate of normality.

    Refused `too-few-for-normality` below eight cases of a group.
    """
    name = choose_test((moments.normality(0).p, moments.normality(1).p), levene.p)
    if name == "rank-sum":
        return MeasureChoice(name, ranks.z, ranks.p)
    test = moments.t_test(equal_variance=name == "student")
    return MeasureChoice(name, test.statistic, test.p)


def _median(values: Values) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.1f} ({low:.1f}, {high:.1f})"
