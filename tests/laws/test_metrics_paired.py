"""Paired DeLong against first principles, and Holm against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError, Refused
from common.metrics import paired_delong, roc
from common.metrics.multiplicity import holm
from tests.scored_partitions import scored_partitions


@settings(deadline=None, max_examples=40)
@given(scored_partitions())
def test_each_score_has_its_own_auc_and_error(scored):
    rng = np.random.default_rng(len(scored.margins))
    margins = np.stack([scored.margins, np.round(scored.margins + rng.normal(0, 3, len(scored.margins)))], axis=1)

    paired = paired_delong.summarise(("dlr", "age"), margins, scored.altered)

    for k in range(2):
        assert pytest.approx(roc.auc(margins[:, k], scored.altered), abs=1e-14) == paired.auc[k]
        assert pytest.approx(roc.delong_error(margins[:, k], scored.altered) ** 2, abs=1e-14) == paired.covariance[k, k]


@settings(deadline=None, max_examples=40)
@given(scored_partitions(largest=30))
def test_covariance_is_that_of_the_placements(scored):
    """Written out as in DeLong's paper, pair by pair; swapping the scores swaps the sign."""
    other = np.roll(scored.margins, 1)
    paired = paired_delong.summarise(("a", "b"), np.stack([scored.margins, other], axis=1), scored.altered)

    kernels = [
        (np.sign(m[~scored.altered][None] - m[scored.altered][:, None]) + 1) / 2 for m in (scored.margins, other)
    ]
    n, m = kernels[0].shape
    by_altered = np.cov(kernels[0].mean(axis=1), kernels[1].mean(axis=1))[0, 1]
    by_other = np.cov(kernels[0].mean(axis=0), kernels[1].mean(axis=0))[0, 1]
    assert pytest.approx(by_altered / n + by_other / m, abs=1e-13) == paired.covariance[0, 1]


def test_difference_and_its_sign():
    rng = np.random.default_rng(3)
    altered = np.arange(60) < 30
    margins = np.stack([rng.normal(size=60) - 2 * altered, rng.normal(size=60)], axis=1)
    paired = paired_delong.summarise(("dlr", "age"), margins, altered)

    there, back = paired_delong.difference(paired, "dlr", "age"), paired_delong.difference(paired, "age", "dlr")

    assert there.difference > 0
    assert (-there.z, there.p) == (back.z, back.p)
    assert there.interval[0] > 0


def test_equal_scores_do_not_differ():
    rng = np.random.default_rng(3)
    altered = np.arange(20) < 10
    margins = rng.normal(size=20)
    paired = paired_delong.summarise(("a", "b"), np.stack([margins, 2 * margins], axis=1), altered)

    assert (0.0, 1.0) == (paired_delong.difference(paired, "a", "b").z, paired_delong.difference(paired, "a", "b").p)


def test_refusals():
    """One case of a class, and a difference whose error is 0."""
    altered = np.array([True, True, False, False])
    perfect = np.array([0.0, 1.0, 2.0, 3.0])
    paired = paired_delong.summarise(("a", "b"), np.stack([perfect, -perfect], axis=1), altered)

    with pytest.raises(Refused, match="difference-without-error"):
        paired_delong.difference(paired, "a", "b")
    with pytest.raises(Refused, match="too-few-per-class"):
        paired_delong.summarise(("a",), perfect[:3, None], altered[:3])
    with pytest.raises(InputError, match="score-not-finite"):
        paired_delong.summarise(("a",), np.full((4, 1), np.nan), altered)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_by_its_definition(p_values):
    """The i-th smallest times (m - i + 1), never below an earlier one, at most 1; names keep their order."""
    named = {f"c{i}": p for i, p in enumerate(p_values)}

    found = holm(named)

    ordered = sorted(p_values)
    steps = [min(1.0, (len(ordered) - i) * p) for i, p in enumerate(ordered)]
    expected = [max(steps[: i + 1]) for i in range(len(steps))]
    assert sorted(found.values()) == expected
    assert list(named) == list(found)
    assert all(found[name] >= named[name] for name in named)


def test_holm_as_statsmodels_prints_it():
    """Statsmodels 0.15.0 multipletests([.01, .04, .03, .005], method="holm")[1]."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})

    assert pytest.approx([0.03, 0.06, 0.06, 0.02], abs=1e-12) == list(found.values())
    with pytest.raises(InputError, match="not-a-p-value"):
        holm({"a": float("nan")})
