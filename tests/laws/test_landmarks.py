"""Federated equals pooled for Nyul's standard scale, and only training cases are in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.preprocess.steps.nyul import landmarks_of, on_standard_scale
from common.config.preprocessing import LANDMARK_PERCENTILES
from common.errors import Refused
from common.stats.landmarks import NAMES, finish, landmark_table
from common.stats.moments import summarise_sums
from common.tables import split_table


def _landmarks(seed: int, cases: int) -> np.ndarray:
    """Rising, each case in units of its own."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.1, 5, (cases, 2, len(LANDMARK_PERCENTILES)))
    unit = rng.uniform(0.01, 1000, (cases, 2, 1))
    return ((steps.cumsum(axis=2) - rng.uniform(0, 50)) * unit).reshape(cases, -1)


@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5), test=st.data())
def test_the_scale_of_all_sites_is_the_scale_of_all_cases(seed, sizes, test):
    """For any partition, and whatever the test cases are."""
    cases = sum(sizes)
    landmarks = _landmarks(seed, cases)
    is_test = np.array(test.draw(st.lists(st.booleans(), min_size=cases, max_size=cases)))
    starts = np.cumsum([0, *sizes[:-1]])
    is_test[starts] = False  # every site trains with somebody
    table = landmark_table(landmarks, np.zeros(cases, bool))
    pooled, _ = split_table(table, is_test)

    parts = []
    for start, size in zip(starts, sizes, strict=True):
        mine = slice(start, start + size)
        own, _ = split_table(landmark_table(landmarks[mine], np.zeros(size, bool)), is_test[mine])
        parts.append(summarise_sums(own))
    scale = finish(parts)

    assert np.array([*scale.t1ce, *scale.flair]) == pytest.approx(pooled.values.mean(axis=0), rel=1e-12, abs=1e-10)
    assert (scale.t1ce[0], scale.t1ce[-1]) == (0, pytest.approx(100))


def test_test_cases_cannot_be_summed():
    table = landmark_table(_landmarks(1, 4), np.zeros(4, bool))
    _, test = split_table(table, np.array([False, False, True, True]))

    with pytest.raises(Refused, match="fit-on-test-cases"):
        summarise_sums(test)
    assert len(NAMES) == table.values.shape[1]


@given(seed=st.integers(0, 10**6), gain=st.floats(0.01, 100), offset=st.floats(-1000, 1000))
def test_a_scanners_gain_and_offset_leave_no_trace(seed, gain, offset):
    """Percentiles move with the image, so the normalised voxels do not; and every landmark lands on the scale."""
    values = np.random.default_rng(seed).gamma(3, 100, 501)  # every percentile is a voxel
    scale = np.linspace(0, 100, len(LANDMARK_PERCENTILES))

    moved = on_standard_scale(values, scale)

    assert on_standard_scale(gain * values + offset, scale) == pytest.approx(moved, rel=1e-6, abs=1e-6)
    assert np.percentile(moved, LANDMARK_PERCENTILES) == pytest.approx(scale, abs=1e-9)
    assert (np.diff(moved[np.argsort(values)]) >= 0).all()
    assert (np.diff(landmarks_of(moved)) > 0).all()
