"""Votes: what no single case decides, as often as stated; and without noise each site's own ranking."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare, mannwhitneyu

from common.arrays import FeatureArray
from common.errors import Refused
from common.privacy.accounting import ChoiceEvent, GaussianEvent, calibrate, calibrate_choice, epsilon_of, within
from common.privacy.noise import NoiseStream, repeatable_key
from common.stats.votes import choose, combine, separation, vote
from common.tables import TestTable, TrainingTable

NAMES = ("a", "b", "c", "d", "e")
REFERENCE_ALONE, REFERENCE_BOTH = 2.5859211260244717, 2.9879594353739396
"""dp-accounting 0.6.0: RdpAccountant, delta 1e-4, ZCDpEvent(7 * 0.5**2 / 8), alone and with two Gaussians of 4."""


def table(values: FeatureArray, altered: object) -> TrainingTable:
    return TrainingTable(NAMES[: values.shape[1]], values, np.asarray(altered, bool))


@st.composite
def tables(draw: st.DrawFn, smallest: int = 0) -> TrainingTable:
    """Few different values, so that many are tied."""
    cases = draw(st.integers(smallest, 12))
    values = draw(arrays(np.float64, (cases, 3), elements=st.integers(-2, 2).map(float)))
    return table(values, draw(arrays(bool, cases)))


def silent(count: int, scale: float) -> FeatureArray:
    del scale
    return np.zeros(count)


@given(tables(smallest=1), st.data())
def test_one_case_less_moves_no_feature_by_one(held, data):
    """Which is what the noise is made for; by all cases of the table, not by the formula."""
    gone = data.draw(st.integers(0, len(held) - 1))
    rest = replace(held, values=np.delete(held.values, gone, axis=0), altered=np.delete(held.altered, gone))

    assert np.abs(separation(held) - separation(rest)).max() < 1


@pytest.mark.parametrize(("altered", "others"), [(1, 60), (60, 1), (30, 30), (5, 40)])
def test_the_stated_largest_changes_are_reached_and_not_passed(altered, others):
    """One more altered case: of the best feature against the others' direction, and of one that told nothing."""
    values = np.concatenate([np.ones(altered), np.zeros(others)])[:, None]
    labels = np.arange(altered + others) < altered
    cases, best = altered + others, table(values, labels)
    against = table(np.vstack([values, [[-1.0]]]), [*labels, True])
    flat = table(np.zeros((cases, 1)), labels)
    upwards = table(np.vstack([np.zeros((cases, 1)), [[1.0]]]), [*labels, True])

    down = (separation(best) - separation(against))[0]
    up = (separation(upwards) - separation(flat))[0]

    assert down == pytest.approx(others * (2 * altered + others) / (cases * (cases + 1)))
    assert up == pytest.approx(others / (cases + 1))
    assert max(down, up) < 1


@given(tables(smallest=2))
def test_it_is_mann_and_whitneys_statistic(held):
    altered = int(held.altered.sum())
    others = len(held) - altered
    if not altered or not others:
        assert not separation(held).any()
        return

    found = separation(held)

    for column, own in zip(held.values.T, found, strict=True):
        above = mannwhitneyu(column[held.altered], column[~held.altered]).statistic
        assert own == pytest.approx(abs(2 * above - altered * others) / len(held), abs=1e-12)


@given(tables(smallest=2), st.sampled_from([np.exp, np.arctan, lambda x: -3 * x + 7]))
def test_no_scale_of_a_scanner_matters(held, change):
    np.testing.assert_allclose(separation(held.with_values(change(held.values))), separation(held), atol=1e-12)


def test_picks_come_as_often_as_the_exponential_mechanism_says():
    """Pairs of picks in their order, against the probabilities of one mechanism after the other."""
    rng = np.random.default_rng(3)
    held = table(
        rng.standard_normal((24, 4)) + np.array([1.5, 0.5, 0, 0]) * (np.arange(24) < 12)[:, None], np.arange(24) < 12
    )
    epsilon, draws = 1.0, 6000
    noise = NoiseStream(repeatable_key(5, "often"))
    counted = dict.fromkeys(((i, j) for i, j in product(range(4), repeat=2) if i != j), 0)

    for _ in range(draws):
        points = vote(held, held.names, 2, epsilon, noise.gumbel)
        counted[int(np.argmax(points == 2)), int(np.argmax(points == 1))] += 1

    odds = np.exp(epsilon * separation(held) / 2)
    expected = [draws * odds[i] / odds.sum() * odds[j] / (odds.sum() - odds[i]) for i, j in counted]
    assert chisquare(list(counted.values()), expected).pvalue > 0.001


def test_the_noise_is_gumbels():
    draws = NoiseStream(repeatable_key(9, "gumbel")).gumbel(200_000, 3.0)

    assert draws.mean() == pytest.approx(3 * np.euler_gamma, abs=0.03)
    assert draws.std() == pytest.approx(3 * np.pi / np.sqrt(6), rel=0.01)


@given(tables(smallest=2), st.permutations(range(3)))
def test_without_noise_it_is_the_sites_own_ranking_in_whatever_order_it_is_asked(held, order):
    points = vote(held, [held.names[i] for i in order], 3, 1.0, silent)

    scores = separation(held)
    assert sorted(points) == [1, 2, 3]
    assert all(scores[i] >= scores[j] for i, j in product(range(3), repeat=2) if points[i] > points[j])


def test_only_candidates_get_points():
    held = table(np.column_stack([np.arange(10.0), np.arange(10.0), np.ones(10)]), np.arange(10) > 4)

    assert vote(held, ("b", "c"), 2, 1.0, silent).tolist() == [0, 2, 1]


def test_points_are_added_and_the_most_are_taken():
    points = combine([np.array([3, 2, 1, 0, 0]), np.array([0, 2, 3, 1, 0])])

    assert choose(NAMES, points, 2).names == ("b", "c")
    assert choose(NAMES, points, 1).ties == ("b", "c")
    assert choose(NAMES, points, 19).names == ("b", "c", "a", "d")
    assert choose(NAMES, points, 19).ties == ()


def test_nobody_votes_by_test_cases():
    held = TestTable(NAMES[:1], np.zeros((2, 1)), np.array([True, False]))

    with pytest.raises(Refused, match="fit-on-test-cases"):
        separation(held)


# ---------------------------------------------------------------- what it costs


def test_a_choice_costs_as_much_as_dp_accountings_zcdp_event():
    choice, scale = ChoiceEvent(0.5, 7), GaussianEvent(4.0, steps=2)

    assert epsilon_of([choice], 1e-4, "rdp") == pytest.approx(REFERENCE_ALONE, rel=0.02)
    assert epsilon_of([choice, scale], 1e-4, "rdp") == pytest.approx(REFERENCE_BOTH, rel=0.02)
    assert epsilon_of([choice], 1e-4, "rdp") >= REFERENCE_ALONE * (1 - 1e-9)


def test_a_choice_is_never_counted_for_less_than_pure_composition_would_allow():
    """The exact loss of one pick of two features whose scores a case moves by 1 against each other: no more than stated."""
    epsilon = 2.0
    event = ChoiceEvent(epsilon, 1)
    p, q = 1 / (1 + np.exp(-epsilon)), 0.5  # odds e^epsilon and 1: range epsilon
    for delta in (1e-4, 1e-2, 0.1):
        stated = epsilon_of([event], delta, "rdp")
        lost = max(p - np.exp(stated) * q, q - np.exp(stated) * p, (1 - q) - np.exp(stated) * (1 - p))
        assert lost <= delta


def test_a_choice_beside_others_is_counted_by_rdp():
    events = [ChoiceEvent(0.5, 7), GaussianEvent(2.0, 0.25, 40)]

    assert epsilon_of(events, 1e-4, "prv") == epsilon_of(events, 1e-4, "rdp") > epsilon_of(events[1:], 1e-4, "rdp")
    assert within(events, 1e-4, 1000.0)[0]


@pytest.mark.parametrize("target", [0.3, 1.0, 3.0])
def test_a_target_is_spent_and_not_passed(target):
    each = calibrate_choice(target, 1e-4, 7)
    alone = epsilon_of([ChoiceEvent(each, 7)], 1e-4, "rdp")
    rest = calibrate(2 * target, 1e-4, 0.25, 40, (ChoiceEvent(each, 7),))

    assert 0.99 * target < alone <= target
    assert epsilon_of([ChoiceEvent(each, 7), GaussianEvent(rest, 0.25, 40)], 1e-4, "rdp") <= 2 * target
