"""Random-effects meta-analysis against published and statsmodels numbers, and its behaviour at small k."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from common.errors import InputError, Refused
from common.metrics import calibration_line, calibration_table, paired_delong, site_estimates
from common.metrics.meta_analysis import leave_one_out, random_effects
from common.metrics.score_cells import ScoreCells
from common.metrics.site_estimates import SiteEstimate
from tests.scored_partitions import scored_partitions

# 13 trials of BCG vaccine (Colditz et al. 1994): tuberculosis and not, vaccinated and not.
BCG = np.array(
    [
        [4, 119, 11, 128],
        [6, 300, 29, 274],
        [3, 228, 11, 209],
        [62, 13536, 248, 12619],
        [33, 5036, 47, 5761],
        [180, 1361, 372, 1079],
        [8, 2537, 10, 619],
        [505, 87886, 499, 87892],
        [29, 7470, 45, 7232],
        [17, 1699, 65, 1600],
        [186, 50448, 141, 27197],
        [5, 2493, 3, 2338],
        [27, 16886, 29, 17825],
    ],
    float,
)


def _bcg():
    a, b, c, d = BCG.T
    values = np.log(a / (a + b)) - np.log(c / (c + d))
    errors = np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))
    return [SiteEstimate(f"trial-{i:02d}", v, e) for i, (v, e) in enumerate(zip(values, errors, strict=True))]


def test_reml_as_metafor_prints_it():
    """Viechtbauer 2010 (doi 10.18637/jss.v036.i03), rma(yi, vi) of log relative risks."""
    found = random_effects(_bcg())

    assert (0.3132, -0.7145, 0.1798, 152.2330) == (
        round(found.tau2, 4),
        round(found.estimate, 4),
        round(found.error, 4),
        round(found.q, 4),
    )


def test_prediction_interval_by_its_formula():
    """T with 11 degrees of freedom, 2.200985, times the root of tau2 + SE^2."""
    found = random_effects(_bcg())

    reach = 2.200985160082949 * np.sqrt(found.tau2 + found.error**2)
    assert pytest.approx((found.estimate - reach, found.estimate + reach), rel=1e-12) == found.prediction


def test_dl_and_hartung_knapp_as_statsmodels_prints_them():
    """Statsmodels 0.15.0 combine_effects(method_re="dl", use_t=True): rows 'random effect (wls)', tau2, q, i2."""
    found = random_effects(_bcg(), method="dl")

    np.testing.assert_allclose(
        (found.tau2, found.q, found.i2, found.estimate, found.error),
        (0.3087602628623761, 152.2330080823733, 0.9211734685456205, -0.714117, 0.178742),
        rtol=1e-6,
    )
    np.testing.assert_allclose(found.interval, (-1.107821, -0.320413), rtol=2e-6)
    np.testing.assert_allclose(found.weights[7], 0.102163, rtol=1e-5)


@st.composite
def estimates(draw, smallest=2):
    k = draw(st.integers(smallest, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    errors = rng.uniform(0.05, 1.0, k)
    values = rng.normal(2, draw(st.sampled_from([0.0, 0.1, 2.0])), k) + rng.normal(0, errors)
    return [SiteEstimate(f"s{i:02d}", float(v), float(e)) for i, (v, e) in enumerate(zip(values, errors, strict=True))]


@settings(deadline=None, max_examples=60)
@given(estimates())
def test_reml_is_the_highest_restricted_likelihood(sites):
    values, variances = np.array([e.value for e in sites]), np.array([e.error**2 for e in sites])

    def loss(tau2):
        weights = 1 / (variances + tau2)
        middle = weights @ values / weights.sum()
        return np.log(variances + tau2).sum() + np.log(weights.sum()) + weights @ (values - middle) ** 2

    found = random_effects(sites)

    rough = min(np.linspace(0, 30, 3001), key=loss)
    fine = minimize_scalar(loss, bounds=(max(0.0, rough - 0.02), rough + 0.02), method="bounded").x
    assert loss(found.tau2) <= min(loss(fine), loss(0.0)) + 1e-7


@settings(deadline=None, max_examples=40)
@given(estimates(smallest=3))
def test_order_scale_and_sign(sites):
    """The order of sites does not matter; doubling estimates doubles the summary; the new site's interval is wider."""
    found = random_effects(sites)

    assert found == random_effects(sites[::-1])
    doubled = random_effects([SiteEstimate(e.site, 2 * e.value, 2 * e.error) for e in sites])
    assert pytest.approx((2 * found.estimate, 4 * found.tau2), rel=1e-6, abs=1e-9) == (doubled.estimate, doubled.tau2)
    assert found.prediction[0] < found.estimate < found.prediction[1]
    assert pytest.approx(1.0) == sum(found.weights)


@settings(deadline=None, max_examples=40)
@given(estimates())
def test_hartung_knapp_never_narrows(sites):
    """The factor is floored at 1."""
    found = random_effects(sites)

    least = stats.t.ppf(0.975, len(sites) - 1) * found.error
    assert (found.interval[1] - found.interval[0]) / 2 >= least * (1 - 1e-12)


def test_one_and_two_sites():
    """K = 1: normal interval; k = 2: t with one degree of freedom; neither predicts."""
    one = random_effects([SiteEstimate("a", 1.0, 0.5)])
    two = random_effects([SiteEstimate("a", 1.0, 0.5), SiteEstimate("b", 1.0, 0.5)])

    assert pytest.approx((1 - 0.979982, 1 + 0.979982), abs=1e-6) == one.interval
    assert (None, 0.0, 1.0, 0.0) == (one.prediction, one.tau2, one.q_p, one.i2)
    assert pytest.approx(1 + 12.706205 * 0.5 / np.sqrt(2), abs=1e-5) == two.interval[1]
    assert two.prediction is None


def test_leaving_each_site_out():
    sites = _bcg()[:4]

    found = leave_one_out(sites)

    assert [e.site for e in sites] == list(found)
    assert random_effects(sites[1:]) == found["trial-00"]
    with pytest.raises(Refused, match="no-site-to-pool"):
        leave_one_out(sites[:1])


@pytest.mark.parametrize(("value", "error"), [(1.0, 0.0), (1.0, -1.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_errors_that_would_weigh_without_limit_are_refused(value, error):
    with pytest.raises(InputError, match=r"error-not-positive \[b\]"):
        random_effects([SiteEstimate("a", 0.0, 1.0), SiteEstimate("b", value, error)])


@settings(deadline=None, max_examples=40)
@given(scored_partitions(smallest=30))
def test_every_site_estimate_is_finite_or_refused_by_name(scored):
    """Whatever a site holds: one case, one class, AUC 0 or 1."""
    for name, (margins, altered) in enumerate(scored.parts()):
        small = min(altered.sum(), (~altered).sum()) < 3
        for make in (
            lambda m=margins, a=altered, s=f"site-{name}": site_estimates.logit_auc(
                s, ScoreCells.of_scores(m, a), min_cases=3
            ),
            lambda m=margins, a=altered, s=f"site-{name}": site_estimates.log_oe(
                s, calibration_table.summarise(m, a), min_cases=3
            ),
        ):
            if small:
                with pytest.raises(Refused, match="small-cells") as refusal:
                    make()
                assert f"site-{name}" == refusal.value.site
            else:
                assert make().error > 0
                assert np.isfinite(make().value)


def test_slope_and_auc_difference_carry_their_errors():
    rng = np.random.default_rng(4)
    altered = np.arange(60) < 30
    margins = np.stack([rng.normal(size=60) - 1.5 * altered, rng.normal(size=60)], axis=1)
    paired = paired_delong.summarise(("dlr", "age"), margins, altered)
    line = calibration_line.fit_sites([(margins[:, 0], altered)])

    slope = site_estimates.slope("a", line)
    gain = site_estimates.auc_difference("a", paired, "dlr", "age")

    assert SiteEstimate("a", line.slope, line.slope_error) == slope
    assert paired.auc[0] - paired.auc[1] == gain.value
    with pytest.raises(Refused, match="difference-without-error"):
        site_estimates.auc_difference("a", paired, "dlr", "dlr")


def test_p_and_interval_say_the_same():
    """P is 0.05 at the estimate whose interval touches 0."""
    found = random_effects(_bcg())
    moved = random_effects([SiteEstimate(e.site, e.value - found.interval[1], e.error) for e in _bcg()])

    assert pytest.approx(0.05, abs=1e-9) == moved.p
    assert pytest.approx(0.317311, abs=1e-6) == random_effects([SiteEstimate("a", 1.0, 1.0)]).p
