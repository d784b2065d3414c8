"""Logistic regression and calibration from sums equal the pooled fit."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from common.errors import InputError, Refused
from common.metrics import calibration_in_the_large, calibration_line, calibration_table, decision_curve, recalibration
from common.stats import logistic
from common.tables import TestTable, TrainingTable
from tests.scored_partitions import scored_partitions

NAMES = ("age", "sex", "volume")


def _cohort(seed, cases):
    """Age in years, sex, tumour volume in mm3; labels that overlap; sites of one case and one class."""
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [rng.integers(3, 80, cases), rng.integers(0, 2, cases), rng.lognormal(9, 1, cases)]
    ).astype(float)
    altered = rng.random(cases) < expit(2 - 0.06 * values[:, 0] + 0.4 * values[:, 1])
    return TrainingTable(NAMES, values, altered), rng.integers(0, 7, cases)


def _parts(table, owner):
    return [TrainingTable(table.names, table.values[owner == s], table.altered[owner == s]) for s in np.unique(owner)]


def _standard(table):
    return {"mean": table.values.mean(axis=0), "deviation": table.values.std(axis=0)}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(80, 300), st.sampled_from([0.01, 1.0, 30.0]))
def test_ridge_is_scikit_learns_of_the_pool(seed, cases, ridge):
    table, owner = _cohort(seed, cases)
    assume(0 < table.altered.sum() < cases)
    standard = _standard(table)

    found = logistic.fit_tables(_parts(table, owner), logistic.start(NAMES, ridge=ridge, **standard))

    scaled = (table.values - standard["mean"]) / standard["deviation"]
    pooled = LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=500, solver="newton-cholesky").fit(
        scaled, table.altered
    )
    np.testing.assert_allclose(found.coefficients[1:] * standard["deviation"], pooled.coef_[0], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(-found.margins(table), pooled.decision_function(scaled), rtol=1e-7, atol=1e-8)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(80, 300))
def test_any_partition_and_order_gives_the_pooled_fit(seed, cases):
    """Also standardised or not; columns in another order at some sites."""
    table, owner = _cohort(seed, cases)
    assume(20 < table.altered.sum() < cases - 20)
    parts = [p.columns(NAMES[::-1]) if i % 2 else p for i, p in enumerate(_parts(table, owner))]

    found = logistic.fit_tables(parts[::-1], logistic.start(NAMES, **_standard(table)))

    pooled = logistic.fit_tables([table], logistic.start(NAMES))
    np.testing.assert_allclose(found.coefficients, pooled.coefficients, rtol=1e-7)
    np.testing.assert_allclose(found.errors, pooled.errors, rtol=1e-7)
    assert (table.altered.sum(), cases) == (found.altered, found.cases)


AGE = [4, 9, 12, 16, 22, 31, 35, 38, 41, 44, 48, 52, 55, 57, 60, 61, 63, 66, 70, 74]
SEX = [0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1]
ALTERED = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0], bool)


def test_statsmodels_numbers():
    """Statsmodels 0.15.0, Logit(y, [1, age, sex]).fit(method="newton", tol=1e-14)."""
    table = TrainingTable(("age", "sex"), np.column_stack([AGE, SEX]).astype(float), ALTERED)

    found = logistic.fit_tables([table], logistic.start(("age", "sex")))

    np.testing.assert_allclose(
        found.coefficients, [3.653636359268969, -0.0691095012191987, -0.6640202027434089], rtol=1e-9
    )
    np.testing.assert_allclose(found.errors, [1.831632542130271, 0.0331698354752747, 1.0913454702072296], rtol=1e-9)
    np.testing.assert_allclose(found.p_values, [0.0460709069970268, 0.0372052626538924, 0.5428944950252426], rtol=1e-9)
    assert pytest.approx(-10.383170141693194, rel=1e-12) == found.log_likelihood


def test_errors_under_a_ridge_are_the_sandwich():
    """inv(I + R) I inv(I + R), with the information at the solution; narrower than without."""
    table = TrainingTable(("age",), np.array(AGE, float)[:, None], ALTERED)
    found = logistic.fit_tables([table], logistic.start(("age",), ridge=50.0))

    design = np.column_stack([np.ones(20), AGE])
    share = expit(design @ found.coefficients)
    information = design.T @ (design * (share * (1 - share))[:, None])
    inverse = np.linalg.inv(information + np.diag([0, 50.0]))
    np.testing.assert_allclose(found.covariance, inverse @ information @ inverse, rtol=1e-8)


@pytest.mark.parametrize("overlap", [False, True], ids=["completely", "in part"])
def test_separation_is_refused_and_ridge_cures_it(overlap):
    """In part: at one value of the column both classes occur, so the loss never falls to 0."""
    values = np.array([1.0, 2, 3, 3 if overlap else 4, 5, 6])[:, None]
    table = TrainingTable(("age",), values, np.array([1, 1, 1, 0, 0, 0], bool))

    with pytest.raises(Refused, match="separated-classes"):
        logistic.fit_tables([table], logistic.start(("age",)))

    assert logistic.fit_tables([table], logistic.start(("age",), ridge=1.0)).coefficients[1] < 0


def test_a_step_too_far_is_taken_back():
    """A hundred times Newton's step: it is halved until the likelihood rises, and the answer is the same."""
    table = TrainingTable(("age", "sex"), np.column_stack([AGE, SEX]).astype(float), ALTERED)
    fit = logistic.start(("age", "sex"))
    for _ in range(2):
        fit = logistic.advance(fit, logistic.summarise(table, fit))

    found = logistic.fit_tables([table], replace(fit, asked=fit.accepted + 100 * (fit.asked - fit.accepted)))

    expected = logistic.fit_tables([table], logistic.start(("age", "sex")))
    np.testing.assert_allclose(found.coefficients, expected.coefficients, rtol=1e-8)


def test_tiny_and_huge_units_are_fitted_alike():
    """A column in other units has a coefficient in other units, to nine digits."""
    values = np.column_stack([AGE, SEX]).astype(float)
    expected = logistic.fit_tables([TrainingTable(("age", "sex"), values, ALTERED)], logistic.start(("age", "sex")))
    scaled = TrainingTable(("age", "sex"), values * [1e9, 1e-9], ALTERED)

    found = logistic.fit_tables([scaled], logistic.start(("age", "sex")))

    np.testing.assert_allclose(found.coefficients * [1, 1e9, 1e-9], expected.coefficients, rtol=1e-9)


def test_complete_separation_is_told_early():
    """At a total loss below log 2 it is certain; waiting for divergence would cost hospitals thirty rounds."""
    table = TrainingTable(("age",), np.arange(12.0)[:, None], np.arange(12) < 6)
    fit = logistic.start(("age",))
    while -logistic.summarise(table, fit).log_likelihood >= np.log(2):
        fit = logistic.advance(fit, logistic.summarise(table, fit))

    assert fit.rounds <= 6
    with pytest.raises(Refused, match="separated-classes"):
        logistic.advance(fit, logistic.summarise(table, fit))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_separation_in_several_columns_is_refused(seed, columns):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(40, columns))
    altered = values @ rng.normal(size=columns) > 0
    assume(0 < altered.sum() < 40)
    names = tuple(f"c{i}" for i in range(columns))

    with pytest.raises(Refused, match="separated-classes"):
        logistic.fit_tables([TrainingTable(names, values, altered)], logistic.start(names))


@pytest.mark.parametrize(
    ("column", "named"),
    [(np.full(20, 7.0), "twin"), (np.array(AGE) * 2.0 + 1, "age"), (np.array(AGE) * 1e-9 + 5, "twin")],
    ids=["constant", "repeats age", "offset of 1e9 deviations"],
)
def test_collinear_columns_are_named(column, named):
    table = TrainingTable(("age", "twin"), np.column_stack([AGE, column]).astype(float), ALTERED)

    with pytest.raises(Refused, match="collinear-columns") as refusal:
        logistic.fit_tables([table], logistic.start(("age", "twin")))

    assert named in refusal.value.field
    assert "ridge" in refusal.value.fix


def test_bad_tables_are_refused_by_name():
    values = np.column_stack([AGE, SEX]).astype(float)
    fit = logistic.start(("age", "sex"))
    one_class = logistic.summarise(TrainingTable(("age", "sex"), values, np.ones(20, bool)), fit)
    holed = values.copy()
    holed[3, 1] = np.nan

    with pytest.raises(Refused, match="one-class-only"):
        logistic.advance(fit, one_class)
    with pytest.raises(InputError, match=r"feature-not-finite \[sex\]"):
        logistic.summarise(TrainingTable(("age", "sex"), holed, ALTERED), fit)
    with pytest.raises(InputError, match=r"feature-missing \[sex\]"):
        logistic.summarise(TrainingTable(("age",), values[:, :1], ALTERED), fit)
    with pytest.raises(Refused, match="fit-on-test-cases"):
        logistic.summarise(TestTable(("age", "sex"), values, ALTERED), fit)
    with pytest.raises(InputError, match="ridge-negative"):
        logistic.start(("age",), ridge=-1.0)


def test_age_alone_ranks_as_age():
    """The comparator of F10: low margin where altered is likely, here in the young."""
    table = TrainingTable(("age",), np.array(AGE, float)[:, None], ALTERED)

    margins = logistic.fit_tables([table], logistic.start(("age",))).margins(table)

    np.testing.assert_array_equal(np.argsort(AGE), np.argsort(margins))


MARGINS = np.array([-4.2, -3.1, -2.5, -0.4, 0.3, 1.2, -1.1, 2.2, 3.5, 0.1, 4.0, -0.2, 1.5, -2.2, 0.8, 2.9])
LABELS = np.array([1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0], bool)


def test_calibration_is_statsmodels():
    """Statsmodels 0.15.0: Logit(y, [1, -margin]) and GLM(y, 1, Binomial, offset=-margin)."""
    parts = [(MARGINS[:1], LABELS[:1]), (MARGINS[1:3], LABELS[1:3]), (MARGINS[3:], LABELS[3:])]

    line, large = calibration_line.fit_sites(parts), calibration_in_the_large.fit_sites(parts)

    np.testing.assert_allclose(
        (line.intercept, line.slope, line.intercept_error, line.slope_error),
        (0.1799169280488418, 0.7930416879910979, 0.6475506902131901, 0.4004692876788423),
        rtol=1e-9,
    )
    np.testing.assert_allclose((large.intercept, large.error), (0.2406067030968515, 0.6846153456976443), rtol=1e-9)


@settings(deadline=None, max_examples=60)
@given(scored_partitions(smallest=12))
def test_shifted_risks_add_up_to_what_is_observed(scored):
    """Also for saturated scores, unless every shift on a stair would do; whoever holds the cases."""
    with refused_for("shift-undetermined"):
        found = calibration_in_the_large.fit_sites(scored.parts())

        pooled = calibration_in_the_large.fit_sites([(scored.margins, scored.altered)])
        assert pytest.approx(scored.altered.sum(), abs=1e-6) == expit(found.intercept - scored.margins).sum()
        assert pytest.approx(pooled.intercept, abs=1e-7, rel=1e-9) == found.intercept


@settings(deadline=None, max_examples=60)
@given(scored_partitions(smallest=12))
def test_the_line_solves_its_score_equations(scored):
    with refused_for("separated-classes", "collinear-columns"):
        line = calibration_line.fit_sites(scored.parts())

        risk = expit(line.intercept - line.slope * scored.margins)
        assert pytest.approx(scored.altered.sum(), abs=1e-6) == risk.sum()
        assert pytest.approx((scored.altered * scored.margins).sum(), rel=1e-7, abs=1e-5) == risk @ scored.margins


@contextlib.contextmanager
def refused_for(*codes: str):
    """The block may end in a refusal of one of these names, and in no other."""
    try:
        yield
    except Refused as refusal:
        if refusal.code not in codes:
            raise


@pytest.mark.parametrize("margin", [-3.0, -30.0, -700.0, 5000.0])
def test_scores_that_are_all_wrong_are_shifted_back(margin):
    """Every risk near 0 or 1, half of the cases altered: the intercept undoes the score."""
    found = calibration_in_the_large.fit_sites([(np.full(16, margin), LABELS)])

    assert pytest.approx(margin, rel=1e-9) == found.intercept  # the logit of a half, minus the predicted one
    assert pytest.approx(0.5) == found.error


@pytest.mark.parametrize(("spread", "most"), [(1.0, 7), (5.0, 8), (300.0, 25)])
def test_a_shift_is_found_in_few_rounds(spread, most):
    """A round is a message to every hospital; rounding at the end must not send the search back to halving."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        altered = np.arange(60) < 24
        margins, search = rng.normal(0, spread, 60) - 2 * altered, calibration_in_the_large.start()
        with refused_for("shift-undetermined"):
            while not search.converged:
                search = calibration_in_the_large.advance(
                    search, calibration_in_the_large.summarise(margins, altered, search)
                )
        assert search.rounds <= most


def test_recalibration_mends_what_it_measures():
    """Refitting on corrected margins gives intercept 0 and slope 1; and the type refuses test cases."""
    corrections = {
        m: recalibration.fit([recalibration.TrainingScores(MARGINS, LABELS)], m) for m in ("intercept", "logistic")
    }

    again = calibration_line.fit_sites([(recalibration.apply(corrections["logistic"], MARGINS), LABELS)])
    shifted = calibration_in_the_large.fit_sites([(recalibration.apply(corrections["intercept"], MARGINS), LABELS)])

    assert pytest.approx((0, 1), abs=1e-9) == (again.intercept, again.slope)
    assert pytest.approx(0, abs=1e-9) == shifted.intercept
    with pytest.raises(Refused, match="fit-on-test-cases"):
        recalibration.fit([(MARGINS, LABELS)])
    with pytest.raises(Refused, match="slope-negative"):
        recalibration.fit([recalibration.TrainingScores(-MARGINS, LABELS)], "logistic")


def test_calibration_refusals():
    """AUC 1 has no slope, equal scores neither; one class has no intercept."""
    with pytest.raises(Refused, match="separated-classes"):
        calibration_line.fit_sites([(MARGINS, MARGINS < 0)])
    with pytest.raises(Refused, match="collinear-columns"):
        calibration_line.fit_sites([(np.ones(16), LABELS)])
    with pytest.raises(Refused, match="one-class-only"):
        calibration_in_the_large.fit_sites([(MARGINS, np.ones(16, bool))])
    with pytest.raises(InputError, match="score-not-finite"):
        calibration_line.fit_sites([(MARGINS * np.inf, LABELS)])


@settings(deadline=None, max_examples=40)
@given(scored_partitions())
def test_calibration_tables_of_sites_are_the_pooled_table(scored):
    found = calibration_table.combine([calibration_table.summarise(m, a) for m, a in scored.parts()[::-1]])

    risk = expit(-scored.margins)
    place = np.minimum((risk * 10).astype(int), 9)
    gaps = [abs((risk - scored.altered)[place == b].sum()) for b in range(10)]
    ratio = found.observed_expected()
    assert pytest.approx(brier_score_loss(scored.altered, risk), abs=1e-12) == found.brier
    assert pytest.approx(sum(gaps) / len(risk), abs=1e-12) == found.expected_calibration_error
    assert pytest.approx(scored.altered.sum() / risk.sum()) == ratio.ratio
    assert ratio.interval[0] < ratio.ratio < ratio.interval[1]


@settings(deadline=None, max_examples=40)
@given(scored_partitions(smallest=20), st.integers(1, 10))
def test_merged_bins_hold_enough_cases_and_lose_none(scored, minimum):
    table = calibration_table.summarise(scored.margins, scored.altered)

    merged = table.merged(minimum)

    assert merged.cases.min() >= minimum
    assert (table.cases.sum(), table.altered.sum()) == (merged.cases.sum(), merged.altered.sum())
    assert table.brier == merged.brier


def test_o_e_interval_by_hand():
    """20 of 50 altered, 16 expected: log 1.25 +- 1.96 sqrt(0.6 / 20)."""
    margins = np.full(50, np.log(0.68 / 0.32))

    found = calibration_table.summarise(margins, np.arange(50) < 20).observed_expected()

    assert pytest.approx((1.25, 0.890179, 1.755264), abs=1e-5) == (found.ratio, *found.interval)


@settings(deadline=None, max_examples=40)
@given(scored_partitions())
def test_decision_curve_by_its_definition(scored):
    """Net benefit from summed counts; at the cohort's own prevalence the re-weighted one is the same."""
    limits = (0.05, 0.3, 0.5, 0.9)
    summed = decision_curve.combine([decision_curve.summarise(m, a, limits) for m, a in scored.parts()[::-1]])

    found = decision_curve.finish(summed)

    n = len(scored.margins)
    for i, t in enumerate(limits):
        acted = np.log(t / (1 - t)) < -scored.margins
        expected = ((acted & scored.altered).sum() - (acted & ~scored.altered).sum() * t / (1 - t)) / n
        everyone = (scored.altered.sum() - (~scored.altered).sum() * t / (1 - t)) / n
        assert pytest.approx((expected, everyone), abs=1e-12) == (found.score[i], found.act_on_all[i])
    own = decision_curve.finish(summed, target_prevalence=float(scored.altered.mean()))
    np.testing.assert_allclose(own.score, found.score, atol=1e-14)


def test_decision_curve_at_the_clinics_prevalence():
    """Sensitivity 1/2, specificity 3/4, prevalence 10 %, threshold 20 %: 0.05 - 0.25 * 0.9 / 4."""
    margins = np.array([-5.0, 5.0, -5.0, 5.0, 5.0, 5.0])
    counts = decision_curve.summarise(margins, np.array([1, 1, 0, 0, 0, 0], bool), [0.2])

    found = decision_curve.finish(counts, target_prevalence=0.1)

    assert pytest.approx((-0.00625, 0.1 - 0.9 / 4)) == (found.score[0], found.act_on_all[0])
    with pytest.raises(InputError, match="not-a-share"):
        decision_curve.finish(counts, target_prevalence=1.0)
    with pytest.raises(InputError, match="not-a-share"):
        decision_curve.summarise(margins, margins > 0, [0.0])
