"""Updates on the wire: each encoding keeps its bound; what is not the model's shape is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config.training import TrainingSettings
from common.errors import WireError
from common.messages.broadcast import received_weights, sent_change
from common.messages.update_gate import check_cases, check_changes, check_round
from common.messages.weight_update import LowRank, WeightUpdate, pack, unpack
from common.seeds import stream
from common.stats.weight_norm import weight_norm

ROWS, COLUMNS = 5, 1000


def make_changes(seed, magnitude=1e-4):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (magnitude * rng.standard_normal(shape)).astype(np.float32)  # noqa: E731
    before = {"big": draw(ROWS, COLUMNS), "small": draw(7)}
    return before, {"big": draw(ROWS, COLUMNS), "small": draw(7)}


magnitudes = st.sampled_from([1e-12, 1e-6, 1e-3, 1.0, 80.0])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**20), magnitudes)
def test_encodings_keep_their_bounds(seed, magnitude):
    """Bit for bit; 2^-11 of each number (2^-25 of the largest, for the smallest); one step of 127."""
    before, changes = make_changes(seed, magnitude)
    largest = np.abs(changes["big"]).max()

    def error(encoding):
        found = unpack(pack(changes, encoding, stream(seed, "rounding")), before)
        np.testing.assert_array_equal(changes["small"], found["small"])
        return np.abs(found["big"].astype(np.float64) - changes["big"])

    assert error("float32").max() == 0
    assert np.all(error("float16") <= np.maximum(2.0**-11 * np.abs(changes["big"]), 2.0**-24 * largest) * 1.01)
    assert error("int8").max() <= 1.001 * largest / 127


def test_stochastic_rounding_has_the_right_mean():
    """Two thousand roundings of the same change: the mean error shrinks with the root of their number."""
    before, changes = make_changes(1)
    rng, total = stream(1, "rounding"), np.zeros((ROWS, COLUMNS))
    for _ in range(2000):
        total += unpack(pack(changes, "int8", rng), before)["big"]

    step = np.abs(changes["big"]).max() / 127
    assert np.abs(total / 2000 - changes["big"]).max() < 5 * step * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize(("encoding", "bound"), [("low_rank", 1e-3), ("low_rank_int8", 2e-2)])
def test_low_rank_factors_come_back_as_their_product(encoding, bound):
    """`kept` tells what weight decay did to weights the server has."""
    before, _ = make_changes(2)
    rng = np.random.default_rng(3)
    left = np.linalg.qr(rng.standard_normal((ROWS, 2)))[0].astype(np.float32)
    right = rng.standard_normal((2, COLUMNS)).astype(np.float32)
    expected = -0.01 * before["big"] + left @ right

    packed = pack({"big": LowRank(-0.01, left, right), "small": before["small"]}, encoding, stream(1, "r"))

    found = unpack(packed, before)["big"]
    assert np.linalg.norm(found - expected) < bound * np.linalg.norm(expected)
    assert sum(part.nbytes for part in packed.parts.values()) < 0.5 * before["big"].nbytes


@pytest.mark.parametrize(("broadcast", "bound"), [("float32", 0), ("float16", 2.0**-11), ("int8", 1 / 127)])
def test_the_broadcast_model_is_the_servers_but_for_one_rounding(broadcast, bound):
    """In the first round nothing has changed and nothing is rounded."""
    first, change = make_changes(8)
    weights = {name: first[name] + change[name] for name in first}
    training = TrainingSettings(broadcast=broadcast)

    sent = sent_change(weights, first, training, seed=1, round_number=2)
    found = weights if sent is None else received_weights(sent, first)

    assert np.abs(found["big"] - weights["big"]).max() <= bound * np.abs(change["big"]).max() * 1.01 + 1e-10
    begun = sent_change(first, first, training, seed=1, round_number=1)
    if begun is not None:
        np.testing.assert_array_equal(first["big"], received_weights(begun, first)["big"])


def _broken(change):
    before, changes = make_changes(4)
    parts = dict(pack(changes, "int8", stream(1, "r")).parts)
    change(parts)
    return before, parts


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda p: p.pop("big"), "update-keys"),
        (lambda p: p.pop("big.scale"), "update-keys"),
        (lambda p: p.update(extra=np.zeros(2, np.float32)), "update-keys"),
        (lambda p: p.update(big=p["big"].T), "update-shape"),
        (lambda p: p.update(big=p["big"].astype(np.float32)), "update-dtype"),
        (lambda p: p.update(small=p["small"].astype(np.float64)), "update-dtype"),
        (lambda p: p.update({"big.scale": np.array([1e300])}), "update-not-finite"),
        (lambda p: p.update({"big.scale": np.array([1e30])}), "update-too-large"),
        (lambda p: p.update({"big.scale": np.array([0.7])}), "update-norm"),
    ],
)
def test_the_gate_names_what_is_wrong(change, code):
    before, parts = _broken(change)

    with pytest.raises(WireError) as caught:
        check_changes(unpack(WeightUpdate(encoding="int8", parts=parts), before), TrainingSettings())

    assert code == caught.value.code


def test_a_rank_beyond_the_rows_is_refused_before_it_costs_memory():
    before, _ = make_changes(5)
    wide = LowRank(0.0, np.zeros((ROWS, 9), np.float32), np.zeros((9, COLUMNS), np.float32))

    with pytest.raises(WireError, match="update-shape"):
        unpack(pack({"big": wide, "small": before["small"]}, "low_rank", stream(1, "r")), before)


@pytest.mark.parametrize("kept_and_scale", [(0.0, 50.0), (3.0, 1.0), (float("nan"), 1.0), (0.0, float("nan"))])
def test_a_long_left_factor_cannot_hide_behind_a_short_right_one(kept_and_scale):
    kept, scale = kept_and_scale
    left = np.linalg.qr(np.random.default_rng(1).standard_normal((ROWS, 2)))[0].astype(np.float32)
    right = np.full((2, COLUMNS), 1e-3, np.float32)
    check_changes({"big": LowRank(0.0, left, right)}, TrainingSettings())

    with pytest.raises(WireError, match="update-too-large"):
        check_changes({"big": LowRank(kept, np.float32(scale) * left, right)}, TrainingSettings())


def test_cases_and_rounds():
    check_cases(3, 3)
    check_round(2, 2)
    for cases in (0, -1, 4):
        with pytest.raises(WireError, match="update-cases"):
            check_cases(cases, 3)
    with pytest.raises(WireError, match="update-round"):
        check_round(1, 2)


def test_the_norm_is_numpys():
    _, changes = make_changes(6)
    whole = np.concatenate([c.ravel() for c in changes.values()]).astype(np.float64)

    assert weight_norm(changes) == pytest.approx(np.linalg.norm(whole), rel=1e-12)
    assert np.isnan(weight_norm({"w": np.array([np.nan], np.float32)}))
