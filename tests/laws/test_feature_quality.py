"""Pooled ICC equals that of all cases together; groups are what their definition says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError, Refused
from common.stats import icc
from common.stats.redundancy import count_independent, group_by_correlation
from common.tables import TestTable, TrainingTable


def _anova(values):
    """ICC(1,1), ICC(2,1) of (patients, measurements), straight from the textbook."""
    n, k = values.shape
    grand = values.mean()
    msr = k * ((values.mean(1) - grand) ** 2).sum() / (n - 1)
    msw = ((values - values.mean(1, keepdims=True)) ** 2).sum() / (n * (k - 1))
    msc = n * ((values.mean(0) - grand) ** 2).sum() / (k - 1)
    sse = ((values - values.mean(1, keepdims=True) - values.mean(0) + grand) ** 2).sum()
    mse = sse / ((n - 1) * (k - 1))
    return (msr - msw) / (msr + (k - 1) * msw), (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)


def test_shrout_and_fleiss_1979():
    """Their table 2: six targets, four judges."""
    judged = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    values = np.array(judged, dtype=float)[:, :, None]

    found = icc.finish(icc.summarise(values, np.zeros(1)))

    np.testing.assert_allclose([found.one_way[0], found.two_way[0]], [0.17, 0.29], atol=0.005)
    np.testing.assert_allclose(found.one_way_low[0], -0.13, atol=0.005)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(4, 40), st.integers(2, 8), st.integers(1, 4), st.floats(-1e6, 1e6))
def test_pooling(seed, cases, measurements, sites, offset):
    """Any partition, features far from zero, against the pooled analysis of variance."""
    rng = np.random.default_rng(seed)
    patients = rng.normal(size=(cases, 1, 3)) * [1, 10, 0.1]
    values = offset + patients + rng.normal(size=(cases, measurements, 3)) + rng.normal(size=(1, measurements, 3))
    centre = values.mean(axis=(0, 1)) + rng.normal(size=3)  # near the mean is enough
    site = rng.integers(0, sites, cases)

    found = icc.finish(icc.combine([icc.summarise(values[site == s], centre) for s in range(sites)]))

    expected = np.array([_anova(values[:, :, j]) for j in range(3)])
    np.testing.assert_allclose(np.array([found.one_way, found.two_way]).T, expected, atol=1e-8)
    assert (cases, measurements) == (found.cases, found.measurements)
    assert (found.one_way_low <= found.one_way + 1e-12).all()


def test_a_feature_that_never_changes():
    """Within patients: 1; at all: no answer."""
    values = np.zeros((5, 3, 2))
    values[:, :, 0] = np.arange(5)[:, None]

    found = icc.finish(icc.summarise(values, np.zeros(2)))

    np.testing.assert_array_equal(found.one_way, [1.0, np.nan])
    np.testing.assert_array_equal(found.one_way_low, [1.0, np.nan])


@pytest.mark.parametrize("values", [np.zeros((3, 1, 2)), np.full((3, 2, 2), np.nan)])
def test_what_has_no_stability(values):
    with pytest.raises(InputError, match=r"too-few-measurements|feature-not-finite"):
        icc.summarise(values, np.zeros(2))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.sampled_from([0.5, 0.9]))
def test_groups(seed, features, threshold):
    """Every pair of a complete-linkage group is above the threshold; each feature is in one group."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(30, 3))
    values = base[:, rng.integers(0, 3, features)] + rng.normal(size=(30, features)) * 0.4
    names = tuple(f"f{i}" for i in range(features))
    table = TrainingTable(names, np.exp(values), np.arange(30) % 2 == 0)  # ranks do not mind the exponential

    found = count_independent(table, threshold=threshold)

    assert sorted(names) == sorted(name for group in found.groups for name in group)
    ranks = np.argsort(np.argsort(values, axis=0), axis=0)
    rho = np.abs(np.corrcoef(ranks, rowvar=False))
    for group in found.groups:
        place = [names.index(name) for name in group]
        assert rho[np.ix_(place, place)].min() >= threshold - 1e-12


def test_ties_of_two_grey_levels_are_one_group():
    """F4: with two levels these are linear in each other; a constant feature is named apart."""
    share = np.linspace(0.1, 0.4, 20)
    columns = {
        "Contrast": share,
        "Id": 1 - share / 2,
        "Idmn": 1 - share / 5,
        "Other": np.sin(99 * share),
        "Flat": share * 0,
    }
    table = TrainingTable(tuple(columns), np.array(list(columns.values())).T, np.arange(20) % 2 == 0)

    found = count_independent(table)

    assert (("Contrast", "Id", "Idmn"), ("Other",)) == found.groups
    assert (("Flat",), 2) == (found.constant, found.independent)


def test_one_feature_and_test_cases():
    assert (("a",),) == group_by_correlation(np.ones((1, 1)), ("a",), threshold=0.9)
    with pytest.raises(Refused, match="fit-on-test-cases"):
        count_independent(TestTable(("a",), np.ones((4, 1)), np.ones(4, bool)))
