"""Whatever a site sends in whatever phase: refused by name before anything is added up, and the others go on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import Array, Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

from common.config.privacy import PrivacySettings, RecordLevelSettings, StatisticsSettings, VotesSettings
from common.errors import WireError
from common.messages.anova import AnovaReply, AnovaRequest
from common.messages.combat import CombatReply, CombatRequest
from common.messages.contingency import ContingencyReply, ContingencyRequest
from common.messages.covariance import CovarianceReply, CovarianceRequest
from common.messages.evaluate import EvaluateReply, EvaluateRequest
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.messages.moments import MomentsReply, MomentsRequest
from common.messages.qualify import QualifyReply
from common.messages.quantiles import QuantilesReply, QuantilesRequest
from common.messages.records import to_records
from common.messages.repeats import RepeatsReply, RepeatsRequest
from common.messages.score_cells import ScoreCellsReply, ScoreCellsRequest
from common.messages.segment_evaluate import SegmentEvaluateReply, SegmentEvaluateRequest
from common.messages.segment_round import SegmentRoundReply, SegmentRoundRequest
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.votes import VotesReply, VotesRequest
from common.messages.weight_update import WeightUpdate
from server.phases.baseline import Baseline
from server.phases.evaluate import Evaluate
from server.phases.harmonise import Harmonise
from server.phases.qualify import Qualify
from server.phases.segment import Segment
from server.phases.segment_evaluate import SegmentEvaluate
from server.phases.select import Select
from server.phases.stability import Stability
from server.phases.train import Train
from server.phases.vote import Vote
from server.state import ALL_SITES, StudyState
from server.workflow import PHASES, _exchange
from tests.builders import small_protocol

SITES = {101: "aachen", 102: "bern", 103: "cork"}
CASES = (5, 7)
WEIGHTS = {"w": np.zeros((2, 3), np.float32)}
PROTOCOL = small_protocol(
    harmonisation={"method": "combat"}, radiomics={"perturbations": 3}, federation={"min_sites": 2, "min_cases": 4}
)
P, V, Q, CELLS = len(PROTOCOL.radiomics.names()), PROTOCOL.visual.length, 2, PROTOCOL.evaluation.score_cells
PRINT, HARMONISER = PROTOCOL.fingerprint(), Harmoniser()
VOTES = VotesSettings()
MODEL = ModelState(
    harmoniser=HARMONISER,
    weights=WEIGHTS,
    signature=("a",),
    radiomics_mean=np.zeros(1),
    radiomics_deviation=np.ones(1),
    visual_mean=np.zeros(V, np.float32),
    visual_deviation=np.ones(V, np.float32),
)
WORDS = {"fingerprint": PRINT, "harmoniser": HARMONISER}
UPDATE = WeightUpdate(encoding="float32", parts=WEIGHTS)


def table(*shape):
    """All twelve cases of every feature in one cell."""
    counts = np.zeros(shape, np.uint8)
    counts.reshape(shape[0], -1)[:, 0] = sum(CASES)
    return counts


def combat_rows(rows, q, p, **more):
    return {"cases": np.full(rows, 12.0), "features": np.ones((rows, p)), "covariates": np.ones((rows, q)), **more}


QUESTIONS = {
    "qualify": (
        Qualify(),
        None,
        QualifyReply,
        {"training_cases": CASES, "test_cases": (1, 1), "versions": {}, "phantom": np.ones(P)},
    ),
    "vote": (
        Vote(),
        VotesRequest(**WORDS),
        VotesReply,
        {"count": 12, "points": np.arange(P, dtype=np.int64) * (np.arange(P) <= VOTES.picks)},
    ),
    "moments-sums": (
        Harmonise(),
        MomentsRequest(**WORDS),
        MomentsReply,
        {"count": 12, "radiomics": np.ones(P), "visual": np.ones(V)},
    ),
    "moments-squares": (
        Harmonise(),
        MomentsRequest(**WORDS, radiomics_mean=np.zeros(P), visual_mean=np.zeros(V)),
        MomentsReply,
        {"count": 12, "radiomics": np.ones(P), "visual": np.ones(V)},
    ),
    "combat-shared": (
        Harmonise(),
        CombatRequest(
            fingerprint=PRINT, ask="shared", shared=("s",), features=np.zeros((0, 0)), covariates=np.zeros((0, 0))
        ),
        CombatReply,
        {"apart": ("s",), **combat_rows(1, Q, P), "cc": np.zeros(0), "cy": np.zeros(0), "yy": np.zeros(0)},
    ),
    "combat-products": (
        Harmonise(),
        CombatRequest(
            fingerprint=PRINT, ask="products", shared=("s",), features=np.zeros((1, P)), covariates=np.zeros((1, Q))
        ),
        CombatReply,
        {
            "apart": ("s",),
            **combat_rows(2, Q, P, cc=np.ones((2, Q, Q)), cy=np.ones((2, Q, P)), yy=np.ones((2, P))),
        },
    ),
    "stability": (
        Stability(),
        RepeatsRequest(fingerprint=PRINT, centre=np.zeros(P)),
        RepeatsReply,
        {"count": 9, "columns": np.ones((3, P)), "between": np.ones(P), "within": np.ones(P)},
    ),
    "quantiles": (
        Select(),
        QuantilesRequest(**WORDS, prefix=np.zeros((P, 2), np.uint64), step=0),
        QuantilesReply,
        {"counts": table(2 * P, 64).reshape(P, 2, 64)},
    ),
    "contingency": (
        Select(),
        ContingencyRequest(**WORDS, edges=np.zeros((P, 4))),
        ContingencyReply,
        {"counts": table(P, 5, 2)},
    ),
    "anova": (
        Select(),
        AnovaRequest(**WORDS, mean=np.zeros(P)),
        AnovaReply,
        {"cases": np.array([5.0, 7.0]), "total": np.ones((2, P)), "squares": np.ones(P)},
    ),
    "covariance": (
        Select(),
        CovarianceRequest(**WORDS, names=("a", "b"), mean=np.zeros(2), deviation=np.ones(2)),
        CovarianceReply,
        {"count": 12, "total": np.eye(2)},
    ),
    "baseline": (
        Baseline(),
        EvaluateRequest(fingerprint=PRINT, study="t", model=MODEL, before=True),
        EvaluateReply,
        {"training": table(2, CELLS), "test": table(2, CELLS)},
    ),
    "train": (
        Train(),
        TrainRoundRequest(fingerprint=PRINT, study="t", round=1, model=MODEL, moments=64 * "0"),
        TrainRoundReply,
        {"round": 1, "cases": 10, "loss": 0.7, "validation_cases": 2, "validation_loss": 0.6, "update": UPDATE},
    ),
    "evaluate": (
        Evaluate(),
        EvaluateRequest(fingerprint=PRINT, study="t", model=MODEL),
        EvaluateReply,
        {"training": table(2, CELLS), "test": table(2, CELLS)},
    ),
    "score-cells": (
        Evaluate(),
        ScoreCellsRequest(fingerprint=PRINT, study="t", prefixes=np.zeros(3, np.uint64), depth=12, bits=4),
        ScoreCellsReply,
        {"counts": table(3, 16, 2)},
    ),
    "segment": (
        Segment(),
        SegmentRoundRequest(fingerprint=PRINT, round=1, weights=WEIGHTS),
        SegmentRoundReply,
        {"round": 1, "cases": 12, "loss": 0.7, "update": UPDATE},
    ),
    "segment-evaluate": (
        SegmentEvaluate(),
        SegmentEvaluateRequest(fingerprint=PRINT, study="t", weights=WEIGHTS),
        SegmentEvaluateReply,
        {"cases": 2, "dice_mean": 0.8, "dice_sd": 0.1, "hd95_cases": 1, "hd95_mean_mm": 3.0},
    ),
}
STATE = StudyState(
    study="t",
    protocol=PROTOCOL,
    sites=tuple(SITES.values()),
    qualified={
        s: QualifyReply(site=s, training_cases=CASES, test_cases=(1, 1), batches=("s",), versions={})
        for s in SITES.values()
    },
    weights=WEIGHTS,
    taking_part=tuple(SITES.values()),
)
STATISTICS = StatisticsSettings(radiomics=dict.fromkeys(PROTOCOL.radiomics.names(), (0, 1)), visual=(), votes=VOTES)
PRIVATE = PrivacySettings(record_level=RecordLevelSettings(noise_multiplier=1.0, statistics=STATISTICS))
STATES = {"vote": STATE.evolve(protocol=PROTOCOL.model_copy(update={"privacy": PRIVATE}))}


class Post:
    """Three sites; bern's records are changed on their way, below the message's own checks."""

    def __init__(self, kind, fields, change, *, copies=1) -> None:
        self.kind, self.fields, self.change, self.copies = kind, fields, change, copies

    def get_node_ids(self):
        """All."""
        return list(SITES)

    def get_nodes(self):
        """All, by name."""
        return [NodeInfo(node_id=node, name=name) for node, name in SITES.items()]

    def send_and_receive(self, messages, *, timeout):
        """Everybody's answer, bern's as it was changed."""
        for message in messages:
            name = SITES[message.metadata.dst_node_id]
            records = to_records(self.kind(site=name, **self.fields))
            for _ in range(self.copies if name == "bern" else 1):
                message.metadata.__dict__["_message_id"] = "m"
                reply = Message(self.change(records) if name == "bern" else records, reply_to=message)
                reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
                yield reply


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    """Flower fills a message from the process it is made in."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def exchange(question, change, *, copies=1):
    state = STATES.get(question, STATE)
    phase, request, kind, fields = QUESTIONS[question]
    request = request or phase.question(state)
    post = Post(kind, fields, change, copies=copies)
    return _exchange(post, phase, request, state.sites, {name: node for node, name in SITES.items()}, state)


def honest(records):
    return records


def every_array(change):
    def tamper(records):
        arrays = records.array_records["arrays"]
        for name in arrays:
            arrays[name] = Array(change(arrays[name].numpy()))
        return records

    return tamper


def every_number(value):
    """In the text: counts, losses."""

    def tamper(records):
        text = json.loads(records["message"]["json"])
        for name in ("count", "cases", "loss", "validation_cases", "dice_mean", "hd95_cases", "round"):
            if name in text:
                text[name] = value
        if "training_cases" in text:
            text["training_cases"] = [value, value]
        records["message"]["json"] = json.dumps(text)
        return records

    return tamper


def first(value):
    def change(array):
        array = array.astype(np.float64)
        array.reshape(-1)[:1] = value
        return array

    return change


def other_dtype(array):
    return array.astype(np.int32 if array.dtype.kind == "f" else np.float64)


def of_another(site="cork"):
    def tamper(records):
        records["message"]["json"] = records["message"]["json"].replace('"bern"', f'"{site}"')
        return records

    return tamper


TAMPERS = {
    "shape": every_array(lambda a: np.concatenate([a, a])),
    "flat": every_array(lambda a: np.concatenate([a.ravel(), np.zeros(1, a.dtype)])),
    "empty": every_array(lambda a: np.zeros((0, 9), a.dtype)),
    "scalar": every_array(lambda a: np.zeros((), a.dtype)),
    "dtype": every_array(other_dtype),
    "text": every_array(lambda a: np.full(a.shape, "x")),
    "complex": every_array(lambda a: a.astype(complex)),
    "nan": every_array(first(np.nan)),
    "inf": every_array(first(-np.inf)),
    "huge": every_array(first(1e300)),
    "no-pickle": every_array(lambda a: np.array([b"x"] * 3)),
}
ARRAYS = [
    (question, tamper)
    for question in QUESTIONS
    for tamper in TAMPERS
    # A phantom of another length or with other values is named in `conclude`, once all are in.
    if question != "segment-evaluate" and not (question == "qualify" and tamper in ("shape", "flat", "huge"))
]


def refused(answers):
    """Bern and nobody else, with a code; what is left can be used."""
    assert ("aachen", "cork") == answers.sites
    assert {"aachen": "contributed", "bern": "refused", "cork": "contributed"} == answers.roster
    assert set(answers.codes) == {"bern"}
    return answers.codes["bern"]


def test_every_phase_has_its_question_here():
    assert {type(q[0]) for q in QUESTIONS.values()} == {type(p) for phases in PHASES.values() for p in phases}


@pytest.mark.parametrize("question", QUESTIONS)
def test_honest_replies_are_admitted(question):
    assert exchange(question, honest).sites == ("aachen", "bern", "cork")


@pytest.mark.parametrize(("question", "tamper"), ARRAYS)
def test_arrays_that_do_not_fit_are_refused_by_name(question, tamper):
    assert refused(exchange(question, TAMPERS[tamper])) != "answers-another-question"


@pytest.mark.parametrize("value", [-1, 10**9, 0.5, float("nan"), float("inf"), "twelve", None])
@pytest.mark.parametrize(
    "question", ["qualify", "vote", "moments-sums", "stability", "covariance", "train", "segment", "segment-evaluate"]
)
def test_numbers_that_cannot_be_are_refused_by_name(question, value):
    refused(exchange(question, every_number(value)))


@pytest.mark.parametrize("question", QUESTIONS)
def test_two_answers_count_as_none(question):
    assert refused(exchange(question, honest, copies=2)) == "answered-twice"


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_in_anothers_name_is_refused(question):
    assert refused(exchange(question, of_another())) == "answers-for-another"


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_to_another_question_is_refused(question):
    def repeat(records):
        records["message"]["json"] = records["message"]["json"].replace('"exchange": 0', '"exchange": 3')
        return records

    assert refused(exchange(question, repeat)) == "answers-another-question"


def test_a_cohort_of_another_size_is_found_in_a_secure_sum_once_all_sites_are_known_to_be_in_it():
    """While the sum is asked for, a site may be missing."""
    phase, request, kind, fields = QUESTIONS["contingency"]
    total = kind(site=ALL_SITES, counts=fields["counts"].astype(np.int64) * 2)

    assert total == phase.admit(STATE, request, total)
    with pytest.raises(WireError, match="cohort-changed"):
        phase.conclude(STATE, {ALL_SITES: total})


@pytest.mark.parametrize("question", ["quantiles", "contingency"])
def test_a_cohort_of_another_size_is_refused(question):
    assert refused(exchange(question, every_array(lambda a: a // 2))) == "cohort-changed"
