"""Private statistics: no case adds more than the bound, the noise is as loud as stated, and without both they are exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config.privacy import StatisticsSettings
from common.privacy.noise import NoiseStream
from common.stats.bounded_moments import bounded_squares, bounded_sums, finish_bounded, references
from common.stats.moments import combine_squares, combine_sums

NAMES = ("a", "b", "c")
CHANNELS = 20
LAWS = settings(deadline=None, max_examples=30, derandomize=True)


def asked(**changes: object) -> StatisticsSettings:
    scales = {"radiomics": {"a": (10.0, 2.0), "b": (-3.0, 0.5), "c": (0.0, 100.0)}, "visual": ((0.2, 0.1),) * CHANNELS}
    return StatisticsSettings.model_validate({**scales, **changes})


def silent(count: int, deviation: float) -> np.ndarray:
    del deviation
    return np.zeros(count)


def cases_of(seed: int, cases: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    radiomics = np.array([10.0, -3.0, 0.0]) + spread * np.array([2.0, 0.5, 100.0]) * rng.standard_normal((cases, 3))
    return radiomics, 0.2 + spread * 0.1 * rng.standard_normal((cases, CHANNELS))


def heard(settings: StatisticsSettings, groups: tuple[np.ndarray, np.ndarray], *, squares: bool) -> np.ndarray:
    """What is told of both groups, in units of the noise's deviation times the multiplier that the settings name."""
    told = []
    for reference, rows in zip(references(settings, NAMES), groups, strict=True):
        assert reference is not None
        loudness: list[float] = []

        def noise(count: int, deviation: float, loudness: list[float] = loudness) -> np.ndarray:
            loudness.append(deviation)
            return np.zeros(count)

        if squares:
            mean = reference.mean + 0.5 * reference.deviation
            total = bounded_squares(rows, mean, reference, noise).total / reference.deviation**2
        else:
            sums = bounded_sums(rows, reference, noise)
            total = (sums.total - sums.count * reference.mean) / reference.deviation
        told.append(total * settings.noise_multiplier / loudness[0])
    return np.concatenate(told)


@LAWS
@given(st.integers(0, 2**20), st.sampled_from([0.1, 1.0, 30.0, 1e6]), st.sampled_from([0.5, 1.5, 4.0]), st.booleans())
def test_no_case_moves_both_groups_together_by_more_than_one(seed, spread, largest, squares):
    """Sensitivity 1 in units of noise over multiplier: that is what the accountant counts."""
    settings, groups = asked(largest=largest), cases_of(seed, 7, spread)
    everyone = heard(settings, groups, squares=squares)

    influence = []
    for case in range(7):
        others = [np.delete(group, case, axis=0) for group in groups]
        influence.append(np.linalg.norm(everyone - heard(settings, (others[0], others[1]), squares=squares)))

    assert max(influence) <= 1 + 1e-9
    if spread >= 30:
        assert max(influence) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("squares", [False, True], ids=["sums", "squares"])
def test_the_noise_is_as_loud_as_stated(squares):
    """Over 600 keys, on no case at all: a group of 20 features, two groups, multiplier 4, L 1.5; sqrt(3) more of squares."""
    _, reference = references(asked(), NAMES)
    assert reference is not None
    nobody = np.zeros((0, CHANNELS))

    def told(key: int) -> np.ndarray:
        noise = NoiseStream(key.to_bytes(2, "big") * 16).gaussian
        if squares:
            return bounded_squares(nobody, reference.mean, reference, noise).total / 0.1**2
        return bounded_sums(nobody, reference, noise).total / 0.1

    drawn = np.array([told(key) for key in range(600)])

    expected = 4.0 * math.sqrt(2) * 1.5 * math.sqrt((3 if squares else 1) * CHANNELS)
    assert drawn.std() == pytest.approx(expected, rel=0.03)
    assert abs(drawn.mean()) < 4 * expected / math.sqrt(drawn.size)


@LAWS
@given(st.integers(0, 2**20), st.integers(2, 4))
def test_without_noise_and_with_a_wide_bound_they_are_the_pooled_moments(seed, sites):
    settings = asked(largest=1e6)
    reference, _ = references(settings, NAMES)
    rows, _ = cases_of(seed, 40, 1.0)
    parts = np.array_split(rows, sites)

    sums = combine_sums([bounded_sums(part, reference, silent) for part in parts])
    mean = sums.total / sums.count
    squares = combine_squares([bounded_squares(part, mean, reference, silent) for part in parts])
    found = finish_bounded(sums, squares, reference)

    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.deviation, rows.std(axis=0), rtol=1e-9)


def test_the_error_is_what_the_docstring_says():
    """Three sites of 68 cases of the reference's own scale, over 200 keys."""
    settings = asked()
    reference, _ = references(settings, NAMES)
    parts = np.array_split(cases_of(3, 204, 1.0)[0], 3)

    means = []
    for key in range(200):
        noise = [NoiseStream(bytes([key, site] * 16)).gaussian for site in range(3)]
        sums = combine_sums([bounded_sums(part, reference, draw) for part, draw in zip(parts, noise, strict=True)])
        means.append((sums.total / sums.count - reference.mean) / reference.deviation)

    stated = 4.0 * 1.5 * math.sqrt(2 * 3 * 3) / 204
    assert np.std(means, axis=0).mean() == pytest.approx(stated, rel=0.1)


def test_a_negative_sum_of_squares_gives_a_third_of_the_reference():
    reference, _ = references(asked(), NAMES)
    rows, _ = cases_of(1, 5, 0.0)

    sums = bounded_sums(rows, reference, silent)
    squares = bounded_squares(rows, reference.mean, reference, lambda count, deviation: np.full(count, -deviation))

    np.testing.assert_allclose(finish_bounded(sums, squares, reference).deviation, reference.deviation / 3)
