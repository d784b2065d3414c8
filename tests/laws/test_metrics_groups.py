"""The paper's group tests from sums equal scipy on the pooled values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.errors import InputError, Refused
from common.metrics import group_moments, group_tests, levene, score_search, value_histogram, van_elteren
from common.metrics.normality import normality_p
from common.metrics.rank_sum import rank_sum, rank_sum_of_cells
from common.metrics.score_cells import ScoreCells
from tests.scored_partitions import scored_partitions


class Measured(NamedTuple):
    """A variable, whether a case is of the first group, and who holds it."""

    values: np.ndarray
    first: np.ndarray
    owner: np.ndarray

    def parts(self):
        """(values, first) of each site."""
        return [(self.values[self.owner == s], self.first[self.owner == s]) for s in np.unique(self.owner)]

    def groups(self):
        """The pooled values of both groups."""
        return self.values[self.first], self.values[~self.first]


@st.composite
def measured(draw, whole=False):
    cases = draw(st.integers(24, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    first = rng.random(cases) < 0.5
    first[:16] = np.arange(16) % 2 == 0
    values = rng.normal(50, 15, cases) - draw(st.sampled_from([0, 20])) * first
    if draw(st.booleans()):
        values = np.where(first, 50 + 3 * (values - 50), values) if not whole else np.abs(values - 50)
    values = np.clip(np.round(values), 0, 120) if whole else values * 10.0 ** draw(st.integers(-6, 6))
    return Measured(values, first, rng.integers(0, draw(st.integers(1, 7)), cases))


def _moments(parts):
    sums = group_moments.combine_sums([group_moments.summarise_sums(v, f) for v, f in parts])
    central = [group_moments.summarise_central(v, f, sums.mean) for v, f in parts]
    return group_moments.finish(sums, group_moments.combine_central(central))


def _levene(parts, centres):
    sums = levene.combine_sums([levene.summarise_sums(v, f, centres) for v, f in parts])
    spread = levene.combine_spread([levene.summarise_spread(v, f, centres, sums.mean) for v, f in parts])
    return levene.finish(sums, spread)


@settings(deadline=None, max_examples=40)
@given(measured())
def test_t_and_welch_and_k_squared(cohort):
    found = _moments(cohort.parts()[::-1])

    first, second = cohort.groups()
    np.testing.assert_allclose(found.deviation, [first.std(ddof=1), second.std(ddof=1)], rtol=1e-12)
    for equal in (True, False):
        expected, mine = stats.ttest_ind(first, second, equal_var=equal), found.t_test(equal_variance=equal)
        np.testing.assert_allclose(
            (mine.statistic, mine.p), (expected.statistic, expected.pvalue), rtol=1e-8, atol=1e-12
        )
    for group, values in enumerate((first, second)):
        if len(values) >= 20:  # below, scipy warns
            expected, mine = stats.normaltest(values), found.normality(group)
            np.testing.assert_allclose((mine.statistic, mine.p), (expected.statistic, expected.pvalue), rtol=1e-8)


@settings(deadline=None, max_examples=40)
@given(measured(), st.sampled_from(["mean", "median"]))
def test_levene(cohort, center):
    first, second = cohort.groups()
    centre = np.mean if center == "mean" else np.median

    found = _levene(cohort.parts(), np.array([centre(first), centre(second)]))

    expected = stats.levene(first, second, center=center)
    np.testing.assert_allclose((found.statistic, found.p), (expected.statistic, expected.pvalue), rtol=1e-9)


@settings(deadline=None, max_examples=40)
@given(measured(whole=True))
def test_a_value_histogram_is_the_pooled_column(cohort):
    """Shapiro-Wilk, Levene, t and rank-sum of ages in years are therefore exact; R37's tree is the same."""
    summed = value_histogram.combine([value_histogram.summarise(v, f) for v, f in cohort.parts()[::-1]])

    for found, pooled in zip(summed.groups, cohort.groups(), strict=True):
        np.testing.assert_array_equal(np.sort(pooled), found)
        assert stats.shapiro(np.sort(pooled)).pvalue == stats.shapiro(found).pvalue
    tree, expected = group_tests.compare_histograms(summed), group_tests.compare_measures(*cohort.groups())
    assert (expected.test, expected.describe) == (tree.test, tree.describe)
    assert pytest.approx((expected.statistic, expected.p), rel=1e-9) == (tree.statistic, tree.p)


@settings(deadline=None, max_examples=30)
@given(measured())
def test_the_tree_from_sums_chooses_what_its_gates_say(cohort):
    """Each leaf is scipy's test of the pooled values."""
    first, second = cohort.groups()
    search = score_search.search_scores(cohort.parts(), ties="all")
    spread = _levene(cohort.parts(), np.array([np.median(first), np.median(second)]))

    moments = _moments(cohort.parts())
    found = group_tests.compare_moments(moments, spread, rank_sum_of_cells(score_search.finish(search)))

    gates = (moments.normality(0).p, moments.normality(1).p)
    if min(gates) <= 0.05:
        expected = stats.mannwhitneyu(first, second, use_continuity=False, method="asymptotic")
        assert "rank-sum" == found.test
    else:
        equal = stats.levene(first, second, center="median").pvalue > 0.05
        expected = stats.ttest_ind(first, second, equal_var=equal)
        assert ("student" if equal else "welch") == found.test
    assert pytest.approx(expected.pvalue, rel=1e-8, abs=1e-12) == found.p


@pytest.mark.parametrize(
    ("normal", "equal", "test"),
    [
        ((0.5, 0.5), 0.5, "student"),
        ((0.5, 0.5), 0.01, "welch"),
        ((0.5, 0.01), 0.5, "rank-sum"),
        ((0.05, 1), 1, "rank-sum"),
    ],
)
def test_r37(normal, equal, test):
    assert test == group_tests.choose_test(normal, equal)


@settings(deadline=None, max_examples=40)
@given(scored_partitions())
def test_rank_sum_of_values_is_scipys(scored):
    first, second = scored.margins[scored.altered], scored.margins[~scored.altered]

    found = rank_sum(first, second)

    expected = stats.mannwhitneyu(first, second, use_continuity=False, method="asymptotic")
    p = np.nan_to_num(expected.pvalue, nan=1.0)  # scipy's when all values are equal
    assert pytest.approx((expected.statistic, p), rel=1e-9) == (found.u, found.p)
    assert -found.z == rank_sum(second, first).z


@settings(deadline=None, max_examples=40)
@given(scored_partitions())
def test_van_elteren_by_its_definition(scored):
    """Sum of (U - E)/(n + 1) over sites, over the root of its variance; one site is the rank-sum test."""
    parts = [van_elteren.summarise(ScoreCells.of_scores(m, a)) for m, a in scored.parts()]
    top = bottom = 0.0
    for m, a in scored.parts():
        n, p, q = len(m), a.sum(), (~a).sum()
        if p and q:
            ties = np.unique(m, return_counts=True)[1].astype(float)
            u = stats.mannwhitneyu(m[a], m[~a], method="asymptotic").statistic
            top += (u - p * q / 2) / (n + 1)
            bottom += p * q / 12 * (n + 1 - (ties**3 - ties).sum() / (n * (n - 1))) / (n + 1) ** 2
    if not any(part.sites for part in parts):
        with pytest.raises(Refused, match="no-site-with-both-classes"):
            van_elteren.finish(van_elteren.combine(parts))
        return

    found = van_elteren.finish(van_elteren.combine(parts[::-1]))

    assert pytest.approx(top / np.sqrt(bottom) if bottom > 1e-12 else 0.0, abs=1e-9) == found.z
    alone = van_elteren.finish(van_elteren.summarise(ScoreCells.of_scores(scored.margins, scored.altered)))
    assert pytest.approx(rank_sum(scored.margins[scored.altered], scored.margins[~scored.altered]).z) == alone.z


def test_van_elteren_is_blind_to_what_only_sites_explain():
    """Site A all but one altered and low scores, site B the reverse: pooled significant, within sites not."""
    margins = np.concatenate([np.linspace(-3, -2, 20), np.linspace(2, 3, 20)])
    altered = np.concatenate([np.arange(20) != 10, np.arange(20) == 10])

    sites = [ScoreCells.of_scores(margins[i : i + 20], altered[i : i + 20]) for i in (0, 20)]
    found = van_elteren.finish(van_elteren.combine([van_elteren.summarise(site) for site in sites]))

    assert rank_sum(margins[altered], margins[~altered]).p < 1e-4
    assert found.p > 0.8


def test_categories_against_scipy_and_empty_ones():
    table = np.array([[10, 20, 30], [6, 9, 17]])

    found = group_tests.compare_categories(group_tests.combine_tables([table - 3, np.full((2, 3), 3)]))

    expected = stats.chi2_contingency(table, correction=False)
    assert (expected.statistic, expected.dof, expected.pvalue) == (found.chi_square, found.degrees, found.p)
    with pytest.raises(Refused, match="empty-category"):
        group_tests.compare_categories(np.array([[1, 0], [2, 0]]))
    with pytest.raises(ValueError, match="not 2 x 2"):
        group_tests.compare_counts(table)


def test_bad_values_are_refused_by_name():
    first = np.array([True, True, False, False])
    ages = np.array([3.0, 50.0, np.nan, 61.0])

    for summarise in (value_histogram.summarise, group_moments.summarise_sums):
        with pytest.raises(InputError, match=r"value-not-finite \[1 case"):
            summarise(ages, first)
    with pytest.raises(InputError, match="value-not-whole"):
        value_histogram.summarise(np.array([3.5, 1, 2, 3]), first)
    with pytest.raises(InputError, match="value-out-of-range"):
        value_histogram.summarise(np.array([3.0, 1, 2, 300]), first)
    with pytest.raises(Refused, match="empty-group"):
        _moments([(np.array([1.0, 2.0]), np.array([True, True]))])
    with pytest.raises(Refused, match="too-few-per-group"):
        _moments([(np.array([1.0, 2.0]), np.array([True, False]))])
    with pytest.raises(Refused, match="too-few-for-normality"):
        _moments([(ages[[0, 1, 3, 3]], first)]).normality(0)


def test_constants_are_not_normal_and_do_not_differ():
    parts = [(np.full(20, 4.0), np.arange(20) < 10)]

    moments, spread = _moments(parts), _levene(parts, np.array([4.0, 4.0]))

    assert (0.0, 0.0, 1.0) == (moments.normality(0).p, spread.statistic, spread.p)
    assert (0.0, 1.0) == (moments.t_test(equal_variance=True).statistic, moments.t_test(equal_variance=True).p)
    assert "rank-sum" == group_tests.compare_measures(np.full(5, 1.0), np.full(5, 1.0)).test
    assert "rank-sum" == group_tests.compare_measures(np.array([1.0, 2.0]), np.array([3.0])).test


def test_many_cases_leave_shapiro_for_k_squared():
    """Shapiro and Wilk's P is not valid above 5,000 cases, and scipy warns."""
    values = np.random.default_rng(0).normal(size=5001)

    assert pytest.approx(stats.normaltest(values).pvalue, rel=1e-9) == normality_p(values)
    assert stats.shapiro(values[:5000]).pvalue == normality_p(values[:5000])
