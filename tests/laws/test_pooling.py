"""Federated equals pooled: whoever holds the cases, the statistics are the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import StandardScaler

from common.metrics import score_histogram
from common.metrics.roc import auc
from common.stats import contingency, moments, quantiles
from common.stats.mutual_information import mutual_information
from common.stats.selection import select_k_best
from common.tables import TrainingTable

FEATURES = 12


@st.composite
def partitions(draw):
    """A table with ties, offsets and wild scales, and an owner for each case."""
    cases = draw(st.integers(12, 60))
    sites = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.standard_normal((cases, FEATURES)) * 10.0 ** rng.integers(-6, 9, FEATURES)
    values += rng.integers(-3, 4, FEATURES) * 10.0 ** rng.integers(-3, 9, FEATURES)
    values[:, 0] = 7.5
    values[:, 1] = rng.integers(0, 3, cases)
    values[:, 2] = np.where(rng.random(cases) < 0.3, -0.0, values[:, 2])
    altered = rng.permutation(np.arange(cases) % 2 == 0)
    owner = rng.integers(0, sites, cases)
    names = tuple(f"f{i:02d}" for i in range(FEATURES))
    parts = [TrainingTable(names, values[owner == s], altered[owner == s]) for s in range(sites)]
    return TrainingTable(names, values, altered), [part for part in parts if len(part)]


@settings(deadline=None, max_examples=40)
@given(partitions())
def test_moments(cohort):
    """Equal to scikit-learn's StandardScaler of the pooled table; constants pass through."""
    table, parts = cohort
    sums = moments.combine_sums([moments.summarise_sums(p) for p in parts])
    squares = moments.combine_squares([moments.summarise_squares(p, sums.total / sums.count) for p in parts])

    found = moments.finish(sums, squares)

    pooled = StandardScaler().fit(table.values)
    spread = table.values.std(axis=0)
    # Where the mean is a million deviations away, float64 itself has few digits of the deviation left.
    sound = spread > 1e-6 * np.abs(table.values.mean(axis=0))
    np.testing.assert_allclose(found.mean, pooled.mean_, rtol=1e-12, atol=1e-12 * spread.max())
    np.testing.assert_allclose(found.deviation[sound], pooled.scale_[sound], rtol=1e-9)
    assert found.deviation[0] == 1.0


@settings(deadline=None, max_examples=40)
@given(partitions(), st.integers(2, 10))
def test_quantiles_are_numpys_to_the_last_bit(cohort, bins):
    table, parts = cohort

    found = _edges(parts, bins, len(table))

    np.testing.assert_array_equal(found, np.quantile(table.values, np.arange(1, bins) / bins, axis=0).T)


@settings(deadline=None, max_examples=40)
@given(partitions())
def test_selection(cohort):
    """Tables add up exactly, mutual information is scikit-learn's, the chosen features are the same."""
    table, parts = cohort
    edges = _edges(parts, 5, len(table))

    summed = contingency.combine([contingency.summarise(p, edges) for p in parts])
    found = mutual_information(summed)

    np.testing.assert_array_equal(summed, contingency.summarise(table, edges))
    expected = [
        mutual_info_score(table.altered, np.searchsorted(edges[j], table.values[:, j], side="right"))
        for j in range(FEATURES)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert select_k_best(table.names, np.array(expected), 5) == select_k_best(table.names, found, 5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(4, 60), st.sampled_from([16, 64, 256]))
def test_auc_from_histograms_keeps_its_bound(seed, cases, cells):
    """Saturated scores too; sensitivity and specificity at 0.5 are exact."""
    rng = np.random.default_rng(seed)
    altered = np.arange(cases) % 2 == 0
    margins = rng.normal(0, 8, cases) - 4 * altered
    halves = [score_histogram.summarise(margins[i::2], altered[i::2], cells=cells) for i in range(2)]

    seen = score_histogram.view(halves[0] + halves[1]) if altered.any() and (~altered).any() else None

    assert seen is not None
    assert abs(seen.auc - auc(margins, altered)) <= seen.half_width + 1e-12
    assert np.sum((margins < 0) & altered) == seen.confusion.tp


def _edges(parts, bins, cases):
    search = quantiles.start(FEATURES, fractions=tuple(np.arange(1, bins) / bins), cases=cases)
    while not quantiles.finished(search):
        counts = [quantiles.summarise(part, search.prefix, search.step) for part in parts]
        search = quantiles.advance(search, np.sum(counts, axis=0))
    return quantiles.finish(search)
