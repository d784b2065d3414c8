"""ROC figures from summed counts equal those of the pooled scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from common.metrics import roc, roc_cells, score_histogram, score_search, thresholds, within_site_auc
from common.metrics.confusion import confusion_below
from common.metrics.rank_sum import rank_sum_of_cells
from common.metrics.score_cells import ScoreCells, TrainingCells
from tests.scored_partitions import scored_partitions


def _search(parts, *, training=False, ties="crossed", stop_bits=64):
    search = score_search.search_scores(parts, ties=ties, stop_bits=stop_bits)
    return score_search.finish_training(search) if training else score_search.finish(search)


@settings(deadline=None, max_examples=60)
@given(scored_partitions())
def test_exact_search_is_the_pooled_roc(scored):
    """AUC is scikit-learn's, DeLong's error the pooled one, whoever holds the cases."""
    cells = _search(scored.parts())

    found = roc_cells.auc(cells)

    assert found.half_width == 0
    assert pytest.approx(roc_auc_score(scored.altered, -scored.margins), abs=1e-14) == found.auc
    assert pytest.approx(roc.delong_error(scored.margins, scored.altered), abs=1e-14) == roc_cells.delong_error(cells)
    assert len(scored.margins) == sum(cells.cases)


@settings(deadline=None, max_examples=60)
@given(scored_partitions())
def test_exact_search_of_all_ties_is_scipys_rank_sum(scored):
    cells = _search(scored.parts(), ties="all")

    found = rank_sum_of_cells(cells)

    first, second = scored.margins[scored.altered], scored.margins[~scored.altered]
    expected = stats.mannwhitneyu(first, second, method="asymptotic", use_continuity=False)
    assert expected.statistic == found.u
    assert pytest.approx(np.nan_to_num(expected.pvalue, nan=1.0), rel=1e-9) == found.p  # nan: all scores equal
    assert len(np.unique(scored.margins)) == len(cells.lower)


@settings(deadline=None, max_examples=40)
@given(scored_partitions(), st.sampled_from([4, 12, 20, 32]))
def test_a_search_that_stops_early_keeps_its_bound(scored, bits):
    found = roc_cells.auc(_search(scored.parts(), stop_bits=bits))

    assert abs(found.auc - roc.auc(scored.margins, scored.altered)) <= found.half_width + 1e-12


@settings(deadline=None, max_examples=60)
@given(scored_partitions(), st.sampled_from([2, 16, 256]))
def test_histograms_of_sites_are_the_pooled_histogram(scored, cells):
    """And the AUC, Youden's share and the curve agree with the pooled scores within the stated bound."""
    summed = sum(score_histogram.summarise(m, a, cells=cells) for m, a in scored.parts())
    pooled = score_histogram.summarise(scored.margins, scored.altered, cells=cells)

    np.testing.assert_array_equal(pooled, summed)
    found = roc_cells.auc(score_histogram.cells_of(summed))
    assert abs(found.auc - roc.auc(scored.margins, scored.altered)) <= found.half_width + 1e-12


@settings(deadline=None, max_examples=60)
@given(scored_partitions())
def test_youden_is_the_best_point_of_the_pooled_curve(scored):
    false, true, _ = roc_curve(scored.altered, -scored.margins, drop_intermediate=False)

    chosen = thresholds.youden(_search(scored.parts(), training=True))

    found = confusion_below(scored.margins, scored.altered, chosen.margin)
    assert pytest.approx((true - false).max(), abs=1e-12) == found.sensitivity + found.specificity - 1


@settings(deadline=None, max_examples=60)
@given(scored_partitions(), st.sampled_from([0.5, 0.8, 0.95]))
def test_fixed_shares_are_kept_and_no_better_threshold_exists(scored, wanted):
    cells = _search(scored.parts(), ties="all", training=True)

    kept_sensitivity = thresholds.at_sensitivity(cells, wanted).margin
    kept_specificity = thresholds.at_specificity(cells, wanted).margin

    every = [confusion_below(scored.margins, scored.altered, t) for t in [*np.unique(scored.margins), np.inf]]
    first = confusion_below(scored.margins, scored.altered, kept_sensitivity)
    second = confusion_below(scored.margins, scored.altered, kept_specificity)
    assert max(c.specificity for c in every if c.sensitivity >= wanted) == first.specificity
    assert first.sensitivity >= wanted
    assert max(c.sensitivity for c in every if c.specificity >= wanted) == second.sensitivity
    assert second.specificity >= wanted


@settings(deadline=None, max_examples=40)
@given(scored_partitions())
def test_counts_at_an_edge_are_exact(scored):
    """From the cells and from the sites; adding counts of sites is counting the pool."""
    cells = _search(scored.parts(), ties="all")

    for limit in [*cells.lower, -np.inf, np.inf]:
        at_sites = [confusion_below(m, a, limit) for m, a in scored.parts()]
        assert cells.confusion_below(limit) == confusion_below(scored.margins, scored.altered, limit)
        assert cells.confusion_below(limit) == sum(at_sites[1:], at_sites[0])


@settings(deadline=None, max_examples=40)
@given(scored_partitions())
def test_within_site_auc(scored):
    """Equal to the raw one; sites of one class give no pair; the order of sites does not matter."""
    parts = [within_site_auc.summarise(ScoreCells.of_scores(m, a)) for m, a in scored.parts()]

    found = within_site_auc.finish(within_site_auc.combine(parts[::-1]))

    expected = roc.within_site_auc(scored.margins, scored.altered, [str(o) for o in scored.owner])
    assert (None if expected is None else pytest.approx(expected, abs=1e-14)) == found


def test_bootstrap_of_cells_is_the_bootstrap_of_patients():
    """In distribution: means and widths of 8,000 draws agree within Monte Carlo error."""
    rng = np.random.default_rng(5)
    altered = np.arange(50) < 25
    margins = np.round(rng.normal(0, 2, 50) - 3 * altered, 1)

    cells = roc_cells.bootstrap_interval(ScoreCells.of_scores(margins, altered), resamples=8000, rng=rng)

    beats = (np.sign(margins[None, ~altered] - margins[altered, None]) + 1) / 2
    draws = [beats[np.ix_(*rng.integers(0, 25, (2, 25)))].mean() for _ in range(8000)]
    patients = tuple(np.quantile(draws, (0.025, 0.975)))
    assert pytest.approx(patients, abs=0.006) == cells


@settings(deadline=None, max_examples=30)
@given(scored_partitions())
def test_adding_cells_pools_them(scored):
    summed = [score_histogram.training_cells_of(score_histogram.summarise(m, a, cells=64)) for m, a in scored.parts()]

    total = sum(summed[1:], summed[0])

    assert isinstance(total, TrainingCells)
    assert (int(scored.altered.sum()), int((~scored.altered).sum())) == total.cases


@settings(deadline=None, max_examples=40)
@given(scored_partitions(largest=40))
def test_placements_pair_by_pair(scored):
    positives, negatives = scored.margins[scored.altered], scored.margins[~scored.altered]

    by_positive, by_negative = roc.placements(positives, negatives)

    beats = (np.sign(negatives[None] - positives[:, None]) + 1) / 2
    np.testing.assert_allclose(by_positive, beats.mean(axis=1), atol=1e-14)
    np.testing.assert_allclose(by_negative, beats.mean(axis=0), atol=1e-14)
