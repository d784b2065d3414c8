"""app: Flower's door into a hospital: action -> task, and nothing but messages and codes back.

The one broad `except` of the client lives here: whatever goes wrong inside, the server gets a Refusal
with a code.  What really happened is written to the site's own log.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.egress.gate import Gate, Question
from client.site import Site, open_site, require_ethics
from client.tasks import (
    advertise_keys,
    anova,
    combat,
    contingency,
    covariance,
    evaluate,
    moments,
    qualify,
    quantiles,
    repeats,
    score_cells,
    segment_evaluate,
    segment_round,
    share_keys,
    train_round,
    unmask,
    votes,
)
from client.tasks.mask_sums import mask_sums
from client.tasks.open_gate import open_gate
from client.tasks.require_noise import require_noise
from common.deployment.event_log import EventLog
from common.errors import ProtocolMismatch, StudyError
from common.messages.advertise_keys import AdvertiseKeysRequest
from common.messages.anova import AnovaRequest
from common.messages.base import Refusal, Reply, Request
from common.messages.combat import CombatRequest
from common.messages.contingency import ContingencyRequest
from common.messages.covariance import CovarianceRequest
from common.messages.evaluate import EvaluateRequest
from common.messages.moments import MomentsRequest
from common.messages.qualify import QualifyRequest
from common.messages.quantiles import QuantilesRequest
from common.messages.records import from_records, to_records
from common.messages.repeats import RepeatsRequest
from common.messages.score_cells import ScoreCellsRequest
from common.messages.segment_evaluate import SegmentEvaluateRequest
from common.messages.segment_round import SegmentRoundRequest
from common.messages.share_keys import ShareKeysRequest
from common.messages.train_round import TrainRoundRequest
from common.messages.unmask import UnmaskRequest
from common.messages.votes import VotesRequest

__all__ = ["app"]

app = ClientApp()

Answer = Callable[[Any, Site], Reply]


def _handle(message: Message, context: Context, kind: type[Request], answer: Answer) -> Message:
    """Read the request, run the task, let the reply or a coded refusal out by the door (client/egress)."""
    settings, name = Path(str(context.node_config["site"])), str(context.node_config.get("name", ""))
    door = _Door(settings, name, kind.action, run=str(context.run_id))
    found = door.safely(lambda: _answer(message, kind, answer, door))
    if isinstance(found, Refusal):
        refused = found
        found = door.safely(lambda: door.release(refused))
    # The door itself failed: no settings, or no log.  The code of that is all that leaves.
    return Message(to_records(found) if isinstance(found, Refusal) else found, reply_to=message)


def _answer(message: Message, kind: type[Request], answer: Answer, door: _Door) -> RecordDict:
    site = door.open()
    request = from_records(message.content, kind)
    door.ask(request)
    if kind is not QualifyRequest:
        _require_protocol(request, site)
    require_noise(request.action, site)
    require_ethics(site)
    reply = mask_sums(answer(request, site), request, site)
    return door.release(reply.model_copy(update={"exchange": request.exchange}))


class _Door:
    """A site's gate while one message is answered; before the settings are read there is none."""

    def __init__(self, settings: Path, name: str, action: str, *, run: str) -> None:
        self._settings, self._name, self._run = settings, name, run
        self._gate: Gate | None = None
        self._question = Question(action, protocol="")

    def open(self) -> Site:
        """Read the settings; from here on everything that leaves is on the log."""
        site = open_site(self._settings)
        self._name = site.settings.name
        self._question = replace(self._question, protocol=site.protocol.fingerprint())
        self._gate = open_gate(site, lambda: datetime.now(UTC))
        return site

    def ask(self, request: Request) -> None:
        """Remember what is answered; Refused where the site does not answer such messages."""
        study, number = getattr(request, "study", ""), getattr(request, "round", 0)
        self._question = replace(self._question, study=study, round=number)
        if self._gate is not None:
            self._gate.require_allowed(self._question.action)

    def release(self, reply: Reply) -> RecordDict:
        """By the gate, or, without one, a refusal as it is."""
        return to_records(reply) if self._gate is None else self._gate.release(self._question, reply)

    def safely(self, step: Callable[[], RecordDict]) -> RecordDict | Refusal:
        """What `step` gives; every failure becomes a coded refusal, and its text stays in the site's own log."""
        try:
            return step()
        except StudyError as error:
            self._note(
                error.code, field=error.field, problem=error.problem, fix=error.fix, case=error.case, local=error.local
            )
            return Refusal(site=self._name, code=error.code, field=error.field, problem=error.problem, fix=error.fix)
        except Exception:  # noqa: BLE001  # the boundary: a foreign exception's text may name a patient
            self._note("internal-error", trace=traceback.format_exc())
            return Refusal(
                site=self._name,
                code="internal-error",
                problem="The site met an error it does not know.",
                fix="The hospital finds it in its own log beside its site file.",
            )

    def _note(self, code: str, **more: str) -> None:
        """One line to `site.log` beside the site's settings; it may name a case, and stays in the hospital."""
        asked, tell = self._question, EventLog(self._settings.with_suffix(".log"), echo=False)
        where = {"site": self._name, "run": self._run, "study": asked.study, "action": asked.action}
        told = {word: value for word, value in more.items() if value}
        with suppress(OSError):  # a full disk must not turn a refusal into a crash
            tell("refused", **where, round=asked.round, code=code, **told)


def _require_protocol(request: Request, site: Site) -> None:
    if request.fingerprint != site.protocol.fingerprint():
        raise ProtocolMismatch(
            "protocol-differs",
            field="protocol",
            site=site.settings.name,
            problem="The site's protocol is not the study's.",
            fix="Install the study's protocol file at the site.",
        )


@app.query("qualify")
def _qualify(message: Message, context: Context) -> Message:
    return _handle(message, context, QualifyRequest, qualify.answer)


@app.query("votes")
def _votes(message: Message, context: Context) -> Message:
    return _handle(message, context, VotesRequest, votes.answer)


@app.query("combat")
def _combat(message: Message, context: Context) -> Message:
    return _handle(message, context, CombatRequest, combat.answer)


@app.query("moments")
def _moments(message: Message, context: Context) -> Message:
    return _handle(message, context, MomentsRequest, moments.answer)


@app.query("quantiles")
def _quantiles(message: Message, context: Context) -> Message:
    return _handle(message, context, QuantilesRequest, quantiles.answer)


@app.query("contingency")
def _contingency(message: Message, context: Context) -> Message:
    return _handle(message, context, ContingencyRequest, contingency.answer)


@app.query("covariance")
def _covariance(message: Message, context: Context) -> Message:
    return _handle(message, context, CovarianceRequest, covariance.answer)


@app.query("anova")
def _anova(message: Message, context: Context) -> Message:
    return _handle(message, context, AnovaRequest, anova.answer)


@app.query("repeats")
def _repeats(message: Message, context: Context) -> Message:
    return _handle(message, context, RepeatsRequest, repeats.answer)


@app.train("train_round")
def _train_round(message: Message, context: Context) -> Message:
    return _handle(message, context, TrainRoundRequest, train_round.answer)


@app.query("score_cells")
def _score_cells(message: Message, context: Context) -> Message:
    return _handle(message, context, ScoreCellsRequest, score_cells.answer)


@app.train("segment_round")
def _segment_round(message: Message, context: Context) -> Message:
    return _handle(message, context, SegmentRoundRequest, segment_round.answer)


@app.evaluate("segment_evaluate")
def _segment_evaluate(message: Message, context: Context) -> Message:
    return _handle(message, context, SegmentEvaluateRequest, segment_evaluate.answer)


@app.evaluate("evaluate")
def _evaluate(message: Message, context: Context) -> Message:
    return _handle(message, context, EvaluateRequest, evaluate.answer)


@app.query("advertise_keys")
def _advertise_keys(message: Message, context: Context) -> Message:
    return _handle(message, context, AdvertiseKeysRequest, advertise_keys.answer)


@app.query("share_keys")
def _share_keys(message: Message, context: Context) -> Message:
    return _handle(message, context, ShareKeysRequest, share_keys.answer)


@app.query("unmask")
def _unmask(message: Message, context: Context) -> Message:
    return _handle(message, context, UnmaskRequest, unmask.answer)
