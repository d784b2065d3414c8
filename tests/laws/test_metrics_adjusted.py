"""ROC adjusted for age: federated equals pooled, and the pooled one is what the papers define."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from common.errors import InputError, Refused
from common.metrics import adjusted_roc, roc, roc_cells, weighted_roc
from common.metrics.score_cells import ScoreCells
from common.stats import logistic
from common.tables import TrainingTable
from tests.scored_partitions import scored_partitions


def _ages(cases: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(8, 80, cases), rng.integers(0, 2, cases)])


@settings(deadline=None, max_examples=60)
@given(scored_partitions(smallest=16), st.integers(0, 999))
def test_the_line_is_the_pooled_least_squares_fit(scored, seed):
    """Scikit-learn's, over the cases that are not altered, whoever holds them."""
    covariates = _ages(len(scored.margins), seed)
    parts = [
        (scored.margins[here], scored.altered[here], covariates[here])
        for here in (scored.owner == s for s in np.unique(scored.owner))
    ]
    controls = ~scored.altered
    if controls.sum() < 8 or np.ptp(scored.margins[controls]) == 0 or np.ptp(covariates[controls, 1]) == 0:
        return
    expected = LinearRegression().fit(covariates[controls], scored.margins[controls])

    line = adjusted_roc.fit_sites(parts)

    scale = np.abs(scored.margins).max()
    np.testing.assert_allclose(
        scored.margins - expected.predict(covariates),
        adjusted_roc.residuals(line, scored.margins, covariates),
        atol=1e-9 * scale,
    )


def test_the_adjusted_auc_is_the_mean_placement_value():
    """AROC.sp (ROCnReg), written out: 1 minus the mean share of standardised residuals that a case does not beat.

    A score that knows age and nothing else is .5 at the same age, although it tells the classes apart.
    """
    rng = np.random.default_rng(5)
    altered = np.arange(300) < 120
    age = np.where(altered, rng.normal(32, 12, 300), rng.normal(55, 12, 300))
    image = rng.normal(0, 1, 300) - 1.2 * altered
    for margins, expected in ((0.1 * age + rng.normal(0, 1, 300), 0.5), (0.1 * age + image, 0.8)):
        slope, start = np.polyfit(age[~altered], margins[~altered], 1)
        residual = margins - start - slope * age
        controls = residual[~altered] / residual[~altered].std()
        placements = [(controls < r).mean() for r in residual[altered] / residual[~altered].std()]

        line = adjusted_roc.fit_sites([(margins, altered, age[:, None])])
        adjusted = adjusted_roc.residuals(line, margins, age[:, None])

        assert pytest.approx(1 - np.mean(placements), abs=1e-12) == roc.auc(adjusted, altered)
        assert pytest.approx(expected, abs=0.05) == roc.auc(adjusted, altered)
        assert roc.auc(margins, altered) > 0.85


def test_the_line_by_hand():
    """Controls at age 10, 20, 30 score 1, 2, 6: a = -2, b = .25."""
    margins, altered = np.array([1.0, 2.0, 6.0, 0.0]), np.array([False, False, False, True])
    ages = np.array([[10.0], [20.0], [30.0], [12.0]])

    line = adjusted_roc.fit_sites([(margins[:1], altered[:1], ages[:1]), (margins[1:], altered[1:], ages[1:])])

    np.testing.assert_allclose(line.coefficients, (-2, 0.25), atol=1e-12)
    np.testing.assert_allclose(adjusted_roc.residuals(line, margins, ages), (0.5, -1, 0.5, -1), atol=1e-12)


@pytest.mark.parametrize(
    ("margins", "ages", "code"),
    [
        ([1.0, 2.0, 5.0, 3.0], [[10.0], [20.0], [20.0], [30.0]], "too-few-controls"),
        ([1.0, 2.0, 5.0, 3.0, 2.0], [[7.0]] * 5, "covariate-collinear"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [[10.0], [20.0], [30.0], [40.0], [50.0]], "score-is-covariate"),
    ],
)
def test_what_cannot_be_adjusted_is_refused(margins, ages, code):
    altered = np.arange(len(margins)) < (2 if code == "too-few-controls" else 1)
    with pytest.raises(Refused, match=code):
        adjusted_roc.fit_sites([(np.array(margins), altered, np.array(ages))])


def test_an_unknown_age_is_refused():
    with pytest.raises(InputError, match="covariate-not-finite"):
        adjusted_roc.summarise(np.zeros(2), np.array([True, False]), np.array([[1.0], [np.nan]]))


@settings(deadline=None, max_examples=60)
@given(scored_partitions(), st.integers(0, 999))
def test_the_weighted_auc_is_scikit_learns(scored, seed):
    """Of exact cells; histograms keep their bound; equal weights give the plain AUC."""
    weights = np.random.default_rng(seed).uniform(0.01, 9, len(scored.margins))
    expected = roc_auc_score(scored.altered, -scored.margins, sample_weight=weights)

    def pooled(lower, *, exact):
        parts = [
            weighted_roc.summarise(m, a, weights[scored.owner == s], lower, exact=exact)
            for (m, a), s in zip(scored.parts(), np.unique(scored.owner), strict=True)
        ]
        return weighted_roc.finish(weighted_roc.combine(parts))

    assert pytest.approx(expected, abs=1e-10) == pooled(np.unique(scored.margins + 0.0), exact=True).auc
    binned = pooled(np.concatenate([[-np.inf], np.linspace(-8, 8, 12)]), exact=False)
    assert abs(binned.auc - expected) <= binned.half_width + 1e-10
    cells = ScoreCells.of_scores(scored.margins, scored.altered)
    equal = weighted_roc.summarise(scored.margins, scored.altered, np.ones(len(weights)), cells.lower, exact=True)
    assert pytest.approx(roc_cells.auc(cells).auc, abs=1e-12) == weighted_roc.finish(equal).auc
    np.testing.assert_allclose(equal.effective, equal.cases)


def test_overlap_weights_balance_age_and_leave_out_whom_age_tells():
    """The logistic fit's own equations balance the means exactly (Li et al. 2018, theorem 3)."""
    rng = np.random.default_rng(8)
    altered = np.arange(400) < 200
    age = np.where(altered, rng.normal(32, 14, 400), rng.normal(52, 14, 400))
    table = TrainingTable(("age",), age[:, None], altered)
    model = logistic.fit_tables([table], logistic.start(("age",)))
    propensity = model.margins(table)

    weights = weighted_roc.balancing_weights(propensity, altered)

    means = [np.average(age[rows], weights=weights[rows]) for rows in (altered, ~altered)]
    assert pytest.approx(means[0], abs=1e-6) == means[1]
    assert weights.max() <= 1
    youngest = np.argmin(np.where(altered, age, np.inf))
    assert weights[youngest] < 0.1 < weighted_roc.balancing_weights(propensity, altered, "inverse").min()
    # A score that is age itself ranks the classes by age alone: weighted to the same ages little is left.
    cells = weighted_roc.summarise(age, altered, weights, np.unique(age), exact=True)
    assert abs(weighted_roc.finish(cells).auc - 0.5) < 0.05 < roc.auc(age, altered) - 0.5
    assert max(weighted_roc.finish(cells).half_width, 0) == 0


def test_weights_of_one_class_are_refused():
    cells = weighted_roc.summarise(np.zeros(3), np.ones(3, bool), np.ones(3), np.zeros(1))
    with pytest.raises(Refused, match="one-class-only"):
        weighted_roc.finish(cells)
