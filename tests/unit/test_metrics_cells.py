"""What cells and thresholds refuse, and the adjustment for prevalence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from common.errors import InputError, Refused
from common.metrics import roc, roc_cells, score_histogram, score_search, thresholds
from common.metrics.auc_interval import logit_auc
from common.metrics.confusion import Confusion, confusion_at, confusion_below
from common.metrics.score_cells import ScoreCells, TrainingCells
from tests.scored_partitions import scored_partitions

ALTERED = np.array([True, False, True, False])
MARGINS = np.array([-3.0, 2.0, 0.5, 0.2])


def test_scores_that_are_not_numbers_are_refused():
    """Before, a histogram counted NaN into its last cell."""
    broken = np.array([np.nan, 1.0, np.inf, 0.0])

    with pytest.raises(InputError, match=r"score-not-finite \[2 case"):
        score_histogram.summarise(broken, ALTERED, cells=16)
    with pytest.raises(InputError, match="score-not-finite"):
        score_search.summarise(broken, ALTERED, score_search.request(score_search.start()))
    with pytest.raises(InputError, match="score-not-finite"):
        ScoreCells.of_scores(broken, ALTERED)


def test_one_class_is_refused_when_classes_are_compared():
    cells = TrainingCells.of_scores(MARGINS, np.ones(4, bool))

    for figure in (roc_cells.auc, roc_cells.delong_error, roc_cells.roc_points, thresholds.youden):
        with pytest.raises(Refused, match="one-class-only"):
            figure(cells)


def test_a_threshold_is_never_chosen_on_test_cases():
    cells = ScoreCells.of_scores(MARGINS, ALTERED)

    for rule in (thresholds.youden, thresholds.prevalence, lambda c: thresholds.at_sensitivity(c, 0.9)):
        with pytest.raises(Refused, match="fit-on-test-cases"):
            rule(cells)


def test_a_threshold_inside_a_cell_is_not_guessed():
    counts = score_histogram.summarise(MARGINS, ALTERED, cells=16)
    cells = score_histogram.cells_of(counts)

    assert cells.confusion_below(0.0).tp == 1
    assert cells.confusion_below(-10.5).tp == 0  # an empty cell may be divided
    with pytest.raises(Refused, match="threshold-inside-a-cell"):
        cells.confusion_below(0.3)


def test_all_scores_equal_leave_no_threshold_but_all_or_none():
    cells = TrainingCells.of_scores(np.zeros(4), ALTERED)

    assert np.inf == thresholds.youden(cells).margin
    assert 1.0 == thresholds.youden(cells).safety_score
    assert 0.5 == roc_cells.auc(cells).auc


def test_prevalence_adjustment_is_bayes():
    """Cutting the corrected posterior at 0.5 or the raw one at the moved threshold calls the same cases."""
    raw = np.linspace(0.01, 0.99, 197)
    odds = (1 - raw) / raw * (0.2 / 0.8) / (0.5 / 0.5)

    moved = thresholds.prevalence_adjusted(thresholds.fixed(0.5), training=0.5, site=0.2)

    np.testing.assert_array_equal(odds / (1 + odds) > 0.5, logit(raw) < moved.margin)
    assert pytest.approx(0.2) == expit(moved.margin)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_shares_at_the_ends_are_refused(share):
    with pytest.raises(InputError, match="not-a-share"):
        thresholds.fixed(share)
    with pytest.raises(InputError, match="not-a-share"):
        thresholds.prevalence_adjusted(thresholds.fixed(), training=0.5, site=share)


def test_many_active_cells_are_asked_in_small_steps():
    """A request never asks for more than about 2^18 counts, however many cells are active."""
    search = score_search.start(ties="all")
    rng = np.random.default_rng(0)
    margins, altered = rng.normal(size=40_000), rng.random(40_000) < 0.5
    sizes = []
    while not score_search.finished(search):
        asked = score_search.request(search)
        counts = score_search.summarise(margins, altered, asked)
        sizes.append(counts.size // 2)
        search = score_search.advance(search, counts)

    assert max(sizes) <= score_search.BUDGET
    assert 40_000 == sum(score_search.finish(search).cases)


def test_adding_cells_of_other_edges_is_an_error():
    with pytest.raises(ValueError, match="different edges"):
        ScoreCells.of_scores(MARGINS, ALTERED) + ScoreCells.of_scores(MARGINS + 1, ALTERED)


def test_a_histogram_needs_its_edge_at_zero():
    with pytest.raises(ValueError, match="no edge at 0"):
        score_histogram.summarise(MARGINS, ALTERED, cells=7)


@settings(deadline=None, max_examples=40)
@given(scored_partitions(smallest=24), st.integers(1, 12))
def test_cells_that_may_be_shown(scored, minimum):
    """Every joined cell holds enough cases, none is lost, and the AUC stays within its bound."""
    cells = ScoreCells.of_scores(scored.margins, scored.altered)

    shown = cells.merged(minimum)

    assert (shown.altered + shown.not_altered).min() >= minimum
    assert cells.cases == shown.cases
    found = roc_cells.auc(shown)
    assert abs(found.auc - roc_cells.auc(cells).auc) <= found.half_width + 1e-12


def test_nothing_is_classified_without_a_score():
    """NaN is below no threshold, so it was silently called not altered."""
    with pytest.raises(InputError, match="score-not-finite"):
        confusion_at(np.array([np.nan, 0.0, 1.0, 2.0]), ALTERED)
    with pytest.raises(InputError, match="score-not-finite"):
        roc.auc(np.array([np.nan, 0.0, 1.0, 2.0]), ALTERED)
    with pytest.raises(Refused, match="one-class-only"):
        _ = Confusion(0, 0, 3, 1).sensitivity


def test_thresholds_hold_for_float32_margins():
    """A float64 edge between two float32 scores must not be rounded onto one of them."""
    low, high = np.float32(1.0), np.nextafter(np.float32(1.0), np.float32(2.0))

    found = confusion_below(np.array([low, high]), np.array([True, False]), float(low) + 1e-9)

    assert Confusion(tp=1, fn=0, tn=1, fp=0) == found


def test_one_case_of_a_class_has_no_narrow_interval():
    """DeLong leaves that class out; Hanley and McNeil's error does not."""
    margins, altered = np.arange(30.0), np.arange(30) == 5
    error = roc.delong_error(margins, altered)

    _, found = logit_auc(roc.auc(margins, altered), error, 1, 29)

    value = 24 / 29
    assert found > 2 * error / (value * (1 - value))
