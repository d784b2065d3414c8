"""The accountants against Google's dp-accounting 0.6.0, and what every accountant must obey.

REFERENCES were made once, in a virtual environment of its own (it wants attrs < 24, which Flower does not):

    pip install dp-accounting==0.6.0
    def made(accountant, mechanisms):
        for noise, rate, steps in mechanisms:
            event = dp_event.GaussianDpEvent(noise)
            event = event if rate == 1 else dp_event.PoissonSampledDpEvent(rate, event)
            accountant.compose(dp_event.SelfComposedDpEvent(event, steps))
        return accountant.get_epsilon(1e-4)
    made(rdp.RdpAccountant(), ...), made(pld.PLDAccountant(), ...)
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from common.privacy.accounting import GaussianEvent, calibrate, epsilon_of, within
from common.privacy.noise import KEY_BYTES, NoiseStream, repeatable_key

DELTA = 1e-4
REFERENCES = [
    ([(4.0, 1.0, 20)], 4.762974993204782, 4.3455838281132255),
    ([(2.0, 0.25, 100)], 6.217656025875874, 5.588581919307419),
    ([(1.0, 0.25, 20)], 7.851283372482426, 6.811088433786749),
    ([(5.0, 0.25, 400)], 4.279468974121068, 3.886710349514898),
    ([(3.0, 0.1, 1000)], 4.6675009496310995, 4.242192024335098),
    ([(4.0, 0.25, 80), (8.0, 1.0, 2)], 2.366135776311266, 2.128202129246819),
]
"""(noise multiplier, sampling rate, steps), RDP, PLD."""


@pytest.mark.parametrize(("mechanisms", "rdp", "pld"), REFERENCES)
def test_both_accountants_are_dp_accountings(mechanisms, rdp, pld):
    """Prv within 0.02 above the exact figure and never below; rdp within 2 % of theirs, whose orders are finer."""
    events = [GaussianEvent(*mechanism) for mechanism in mechanisms]

    assert pld <= epsilon_of(events, DELTA) <= pld + 0.02
    assert rdp * (1 - 1e-9) <= epsilon_of(events, DELTA, "rdp") <= rdp * 1.02


def test_more_steps_less_noise_more_cases_cost_more():
    base = epsilon_of([GaussianEvent(2.0, 0.2, 50)], DELTA, "rdp")

    for dearer in (GaussianEvent(2.0, 0.2, 51), GaussianEvent(1.9, 0.2, 50), GaussianEvent(2.0, 0.21, 50)):
        assert epsilon_of([dearer], DELTA, "rdp") > base
    assert epsilon_of([GaussianEvent(2.0, 0.2, 50)], DELTA / 10, "rdp") > base
    assert epsilon_of([GaussianEvent(2.0, 0.2, 25)] * 2, DELTA, "rdp") == pytest.approx(base, abs=1e-12)
    assert epsilon_of([], DELTA) == 0.0


def test_hardly_anything_spent_is_no_reason_to_warn():
    """Warnings are errors here; the exact figure of one Gaussian is Balle and Wang's (2018, arXiv 1805.06530)."""
    noise = 40.0
    epsilon = epsilon_of([GaussianEvent(noise)], DELTA)

    delta = stats.norm.cdf(0.5 / noise - epsilon * noise) - np.exp(epsilon) * stats.norm.cdf(
        -0.5 / noise - epsilon * noise
    )
    assert delta <= DELTA
    assert 0 < epsilon < 0.1


def test_without_noise_there_is_no_bound():
    assert math.isinf(epsilon_of([GaussianEvent(3.0, 0.2, 5), GaussianEvent(0.0, 0.2, 1)], DELTA))
    assert within([GaussianEvent(0.0)], DELTA, 1e6) == (False, math.inf)


def test_the_closer_accountant_decides_at_the_limit():
    """6.27 by rdp, 5.60 by prv: a limit between them is kept."""
    events = [GaussianEvent(2.0, 0.25, 100)]

    assert within(events, DELTA, 7.0) == (True, epsilon_of(events, DELTA, "rdp"))
    fits, spent = within(events, DELTA, 6.0)
    assert fits
    assert spent == epsilon_of(events, DELTA, "prv")
    assert not within(events, DELTA, 5.5)[0]


@pytest.mark.parametrize("target", [1.0, 8.0])
def test_calibrated_noise_meets_its_target_closely(target):
    noise = calibrate(target, DELTA, 0.25, 200)

    assert epsilon_of([GaussianEvent(noise, 0.25, 200)], DELTA, "rdp") <= target
    assert epsilon_of([GaussianEvent(noise * 0.995, 0.25, 200)], DELTA, "rdp") > target


def test_noise_is_gaussian_and_uniform_to_the_tails():
    noise = NoiseStream(b"0" * KEY_BYTES)

    assert stats.kstest(noise.gaussian(20_000, 3.0), "norm", args=(0, 3.0)).pvalue > 0.01
    assert stats.kstest(noise.uniform(20_000), "uniform").pvalue > 0.01
    assert np.abs(noise.gaussian(20_000, 1.0)).max() > 3.5


def test_streams_repeat_and_differ_by_every_part_of_their_name():
    names = [(1, "a", 1), (2, "a", 1), (1, "b", 1), (1, "a", 2)]
    drawn = {tuple(NoiseStream(repeatable_key(*name)).uniform(3)) for name in names}

    assert len(drawn) == len(names)
    assert tuple(NoiseStream(repeatable_key(*names[0])).uniform(3)) in drawn
    with pytest.raises(ValueError, match="32"):
        NoiseStream(b"short")
