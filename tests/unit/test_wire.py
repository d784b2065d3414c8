"""Messages: the same after a trip, nothing infinite, no value in an error; checkpoints: whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from common.errors import InputError, WireError
from common.messages.base import Refusal
from common.messages.evaluate import EvaluateRequest
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.messages.records import from_records, is_refusal, size_in_bytes, to_records
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.weight_update import WeightUpdate
from common.stats.mutual_information import mutual_information
from common.tables import TestTable, require_training
from server.checkpoint import load_checkpoint, save_checkpoint
from server.state import Exchange, StudyState
from tests.builders import small_protocol


def _model() -> ModelState:
    ones = np.ones(3)
    return ModelState(
        harmoniser=Harmoniser(),
        weights={"visual.weight": np.eye(3, dtype=np.float32), "fusion.bias": np.zeros(2, np.float32)},
        signature=("a", "b", "c"),
        radiomics_mean=ones,
        radiomics_deviation=ones,
        visual_mean=ones.astype(np.float32),
        visual_deviation=ones.astype(np.float32),
    )


def test_a_message_survives_the_trip():
    request = TrainRoundRequest(fingerprint="f", study="s", round=2, model=_model(), moments=64 * "0")

    records = to_records(request)
    back = from_records(records, TrainRoundRequest)

    assert (2, ("a", "b", "c")) == (back.round, back.model.signature)
    np.testing.assert_array_equal(np.eye(3), back.model.weights["visual.weight"])
    assert size_in_bytes(records) > 9 * 4
    assert is_refusal(to_records(Refusal(site="s", code="c")))


def test_nan_cannot_be_said():
    with pytest.raises(ValidationError):
        WeightUpdate(encoding="float32", parts={"w": np.array([np.nan])})
    nothing = WeightUpdate(encoding="float32", parts={})
    with pytest.raises(ValidationError):
        TrainRoundReply(site="s", round=1, cases=3, loss=float("nan"), update=nothing)


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".", "A b"])
def test_a_studys_name_cannot_lead_out_of_the_cache(name):
    """Sites name files by it."""
    with pytest.raises(ValidationError):
        TrainRoundRequest(fingerprint="f", study=name, round=2, model=_model())
    with pytest.raises(ValidationError):
        EvaluateRequest(fingerprint="f", study=name, model=_model())


def test_a_malformed_message_is_told_without_its_values():
    records = to_records(Refusal(site="s", code="c"))
    records["message"]["json"] = '{"site": "SECRET", "code": 5}'

    with pytest.raises(WireError) as caught:
        from_records(records, Refusal)

    assert "SECRET" not in str(caught.value)
    with pytest.raises(WireError, match="kind"):
        from_records(records, TrainRoundReply)


def test_a_checkpoint_comes_back_whole(tmp_path):
    exchange = Exchange(phase="train", action="train_round", round=1, seconds=0.5, roster={"s": "contributed"})
    state = StudyState(
        study="t", protocol=small_protocol(), sites=("s",), weights=_model().weights, exchanges=(exchange,), scratch=3
    )

    save_checkpoint(tmp_path / "c.npz", state)
    back = load_checkpoint(tmp_path / "c.npz")

    assert (state.protocol, (exchange,), None) == (back.protocol, back.exchanges, back.scratch)
    np.testing.assert_array_equal(state.weights["visual.weight"], back.weights["visual.weight"])
    (tmp_path / "c.npz").write_bytes(b"half")
    with pytest.raises(InputError, match="checkpoint-unreadable"):
        load_checkpoint(tmp_path / "c.npz")


def test_nothing_learns_from_test_cases():
    table = TestTable(("a",), np.zeros((2, 1)), np.array([True, False]))

    with pytest.raises(Exception, match="fit-on-test-cases"):
        require_training(table)


def test_continuous_values_are_refused_by_mutual_information():
    """R25: every value its own bin would score ln 2 for every feature."""
    counts = np.zeros((1, 40, 2), np.int64)
    counts[0, np.arange(40), np.arange(40) % 2] = 1

    with pytest.raises(Exception, match="values-not-discretised"):
        mutual_information(counts)
