"""Selection, covariance, F and explained variance: whoever holds the cases, the same numbers as pooled libraries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f_oneway

from common.catalogue import PAPER_SIGNATURE
from common.config.harmonisation import HarmonisationSettings
from common.config.modelling import SelectionSettings
from common.errors import InputError, Refused
from common.stats import anova, covariance, explained_variance, histogram, quantiles
from common.stats.bin_edges import edges_from_moments, edges_from_quantiles, wanted_quantiles
from common.stats.combat import BatchDesign
from common.stats.selection import decorrelated_k_best, select_k_best, select_mrmr
from common.stats.stability import draw_resamples, measure_stability
from common.stats.standardiser import from_quartiles
from common.tables import TestTable, TrainingTable
from simulation.statistics.estimate import (
    federated_moments,
    federated_quantiles,
    federated_selection,
    federated_stability,
)
from simulation.statistics.federated_combat import CombatSite, federated_combat

FEATURES = 14


@st.composite
def partitions(draw):
    """A table with offsets, scales, a constant and correlated pairs; an owner and a scanner for each case."""
    cases, sites = draw(st.integers(16, 60)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.standard_normal((cases, FEATURES))
    values[:, 1] = values[:, 0] + 0.05 * values[:, 1]
    values = (values + rng.integers(-300, 300, FEATURES)) * 10.0 ** rng.integers(-4, 6, FEATURES)
    values[:, 2] = -3.5
    altered = rng.permutation(np.arange(cases) % 2 == 0)
    owner, scanner = rng.integers(0, sites, cases), rng.integers(0, 3, cases)
    names = tuple(f"f{i:02d}" for i in range(FEATURES))
    pick = [owner == s for s in rng.permutation(sorted(set(owner)))]
    parts = [TrainingTable(names, values[rows], altered[rows]) for rows in pick]
    return TrainingTable(names, values, altered), parts, scanner, [scanner[rows] for rows in pick]


@settings(deadline=None, max_examples=30)
@given(partitions())
def test_covariance_is_numpys(cohort):
    table, parts, *_ = cohort
    mean, scale = table.values.mean(axis=0), table.values.std(axis=0)
    scale[2] = 1.0

    found = covariance.combine([covariance.summarise(part, mean) for part in parts])

    expected = np.cov(table.values, rowvar=False)
    np.testing.assert_allclose(
        covariance.finish(found) / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-9
    )
    correlation = covariance.correlation(found)
    assert 1.0 == correlation[2, 2]
    assert correlation[0, 1] > 0.99
    assert np.all(correlation[2, [0, 1, 3]] == 0)


@settings(deadline=None, max_examples=30)
@given(partitions())
def test_f_is_scipys(cohort):
    table, parts, *_ = cohort
    mean = table.values.mean(axis=0)

    found = anova.f_statistic(anova.combine([anova.summarise(part, mean) for part in parts]))

    varying = np.arange(FEATURES) != 2
    expected = f_oneway(*(table.values[table.altered == label][:, varying] for label in (False, True))).statistic
    np.testing.assert_allclose(found[varying], expected, rtol=1e-7, atol=1e-9)
    assert 0.0 == found[2]


@settings(deadline=None, max_examples=30)
@given(partitions())
def test_explained_variance_does_not_depend_on_who_holds_a_scanner(cohort):
    table, parts, scanner, scanners = cohort
    mean = table.values.mean(axis=0)
    summed = explained_variance.combine(
        [explained_variance.summarise(p, tuple(map(str, s)), mean) for p, s in zip(parts, scanners, strict=True)]
    )

    found = explained_variance.finish(summed)

    pooled = explained_variance.finish(explained_variance.summarise(table, tuple(map(str, scanner)), mean))
    np.testing.assert_allclose(found, pooled, atol=1e-9)
    assert ((found >= 0) & (found <= 1 + 1e-9)).all()
    assert 0.0 == found[2]


@settings(deadline=None, max_examples=25)
@given(partitions(), st.sampled_from(["mutual_information", "decorrelated", "mrmr", "anova_f"]))
def test_selection_does_not_depend_on_the_partition(cohort, method):
    table, parts, *_ = cohort
    chosen = SelectionSettings(method=method, k=4, bins=3, largest_correlation=0.95)

    assert federated_selection([table], chosen).chosen == federated_selection(parts, chosen).chosen


def test_a_fixed_signature_is_taken_whatever_the_cases_say():
    table = TrainingTable(
        PAPER_SIGNATURE[::-1], np.random.default_rng(1).standard_normal((12, 19)), np.arange(12) % 2 == 0
    )

    found = federated_selection([table], SelectionSettings(method="fixed_signature"))

    assert found.chosen.names == PAPER_SIGNATURE
    assert not found.scores.any()


@settings(deadline=None, max_examples=25)
@given(partitions())
def test_edges_of_every_kind(cohort):
    """Quantiles are numpy's; equal width lies between the outer percentiles, never between extremes."""
    table, parts, *_ = cohort
    outer = federated_quantiles(parts, wanted_quantiles("equal_width", 5))

    edges = edges_from_quantiles("equal_width", outer, 5)

    np.testing.assert_array_equal(outer, np.quantile(table.values, (0.01, 0.99), axis=0).T)
    assert (4,) == edges.shape[1:]
    assert (np.diff(edges, axis=1) >= 0).all()
    by_moments = edges_from_moments(table.values.mean(axis=0), table.values.std(axis=0), 5)
    np.testing.assert_allclose(by_moments[:, [1, 2]].mean(axis=1), table.values.mean(axis=0), rtol=1e-9)
    robust = from_quartiles(federated_quantiles(parts, (0.25, 0.5, 0.75))).apply(table.values)
    np.testing.assert_allclose(np.median(robust, axis=0), 0, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(partitions())
def test_extremes_and_histograms_are_pooled(cohort):
    """Minimum and maximum are the quantiles 0 and 1; counts over common edges add up to numpy's."""
    table, parts, *_ = cohort

    low, middle, high = federated_quantiles(parts, (0.0, 0.5, 1.0)).T

    np.testing.assert_array_equal((low, high), (table.values.min(axis=0), table.values.max(axis=0)))
    np.testing.assert_array_equal(middle, np.median(table.values, axis=0))
    edges = np.stack([middle - 1, middle, middle + 1], axis=1)
    counts = histogram.combine([histogram.summarise(part, edges) for part in parts])
    for j, column in enumerate(table.values.T):
        np.testing.assert_array_equal(counts[j], np.histogram(column, [-np.inf, *edges[j], np.inf])[0])


def test_correlated_features_are_skipped_and_candidates_can_run_out():
    names, scores = ("a", "b", "c"), np.array([3.0, 2.0, 1.0])
    correlation = np.array([[1, 0.97, 0.1], [0.97, 1, 0.1], [0.1, 0.1, 1.0]])

    assert ("a", "c") == decorrelated_k_best(names, scores, correlation, 2, limit=0.9).names
    assert ("a", "c", "b") == select_mrmr(names, scores, correlation, 3).names
    with pytest.raises(Refused, match="too-few-candidates"):
        decorrelated_k_best(names, scores, correlation, 3, limit=0.9)


def test_equal_scores_go_by_name():
    chosen = select_k_best(("d", "a", "c", "b"), np.array([0.5, 0.5, 0.5 + 1e-14, 0.9]), 2)

    assert ("b", "a") == chosen.names
    assert ("a", "c", "d") == chosen.ties


def test_nogueira_is_one_for_the_same_choice_and_zero_for_chance():
    same = np.zeros((30, 100), bool)
    same[:, :10] = True
    rng = np.random.default_rng(0)
    chance = np.array([rng.permutation(100) < 10 for _ in range(200)])

    assert 1.0 == measure_stability(same).index
    assert abs(measure_stability(chance).index) < 0.02
    half = measure_stability(np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1]], bool))
    assert pytest.approx(1 - (4 / 3) * np.mean([0, 0.25, 0.1875, 0.1875]) / 0.25) == half.index


def test_resamples_keep_their_share_of_each_class_and_are_those_of_the_site():
    altered = np.arange(40) < 10

    one = draw_resamples(altered, 3, share=0.8, seed=1, site="a")

    assert [8, 8, 8] == [int(keep[altered].sum()) for keep in one]
    assert [24, 24, 24] == [int(keep[~altered].sum()) for keep in one]
    other = draw_resamples(altered, 3, share=0.8, seed=1, site="b")
    assert any((x != y).any() for x, y in zip(one, other, strict=True))


def test_stability_over_sites_finds_the_informative_features():
    rng = np.random.default_rng(2)
    sites = []
    for name in ("a", "b", "c"):
        altered = np.arange(40) % 2 == 0
        values = rng.standard_normal((40, 30))
        values[:, :3] += 2 * altered[:, None]
        sites.append((name, TrainingTable(tuple(f"f{i:02d}" for i in range(30)), values, altered)))
    edges = federated_quantiles([t for _, t in sites], (0.2, 0.4, 0.6, 0.8))

    found = federated_stability(sites, edges, k=3, resamples=20, share=0.8, seed=4)

    assert (found.frequency[:3] == 1).all()
    assert found.index == 1.0


@pytest.mark.parametrize("summarise", [anova.summarise, covariance.summarise])
def test_nothing_is_fitted_on_test_cases(summarise):
    table = TestTable(("a",), np.zeros((2, 1)), np.array([True, False]))

    with pytest.raises(Refused, match="fit-on-test-cases"):
        summarise(table, np.zeros(1))


@pytest.mark.parametrize(
    ("names", "told"), [(("b", "a"), "another order"), (("a", "c"), "lacks b and adds c"), (("a",), "lacks b")]
)
def test_features_in_another_order_or_missing_are_refused_by_name(names, told):
    values, altered = np.arange(8.0).reshape(4, 2), np.array([True, False, True, False])
    tables = [TrainingTable(("a", "b"), values, altered), TrainingTable(names, values[:, : len(names)], altered)]
    design = BatchDesign(("x", "x", "y", "y"), np.zeros((4, 0)))

    for ask in (
        lambda: federated_moments(tables),
        lambda: federated_quantiles(tables, (0.5,)),
        lambda: federated_selection(tables, SelectionSettings(k=1)),
        lambda: federated_combat([CombatSite(t, design) for t in tables], HarmonisationSettings(method="combat")),
    ):
        with pytest.raises(InputError, match="features-differ") as refused:
            ask()
        assert told in refused.value.explain()


def test_counts_of_another_shape_are_not_added():
    with pytest.raises(ValueError, match="cannot be added"):
        quantiles.combine([np.zeros((2, 3, 64), np.uint8), np.zeros((2, 1, 64), np.uint8)])
