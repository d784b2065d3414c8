"""app: Flower's door into a hospital: action -> task, and nothing but messages and codes back.

The one broad `except` of the client lives here: whatever goes wrong inside, the server gets a Refusal
with a code.  What really happened is written to the site's own log.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.site import Site, open_site, require_ethics
from client.tasks import (
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
    train_round,
)
from common.errors import ProtocolMismatch, StudyError
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
from common.messages.train_round import TrainRoundRequest

__all__ = ["app"]

app = ClientApp()

Answer = Callable[[Any, Site], Reply]


def _handle(message: Message, context: Context, kind: type[Request], answer: Answer) -> Message:
    """Read the request, run the task, write the reply; every failure becomes a coded refusal."""
    settings = Path(str(context.node_config["site"]))
    name = str(context.node_config.get("name", ""))
    try:
        request = from_records(message.content, kind)
        site = open_site(settings)
        name = site.settings.name
        if kind is not QualifyRequest:
            _require_protocol(request, site)
        require_ethics(site)
        reply = answer(request, site)
    except StudyError as error:
        _write_log(settings, error.explain())
        reply = Refusal(site=name, code=error.code, field=error.field, problem=error.problem, fix=error.fix)
    except Exception:  # noqa: BLE001  # the boundary: a foreign exception's text may name a patient
        _write_log(settings, traceback.format_exc())
        reply = Refusal(
            site=name,
            code="internal-error",
            problem="The site met an error it does not know.",
            fix="The hospital finds it in its own log beside its site file.",
        )
    return Message(to_records(reply), reply_to=message)


def _require_protocol(request: Request, site: Site) -> None:
    if request.fingerprint != site.protocol.fingerprint():
        raise ProtocolMismatch(
            "protocol-differs",
            field="protocol",
            site=site.settings.name,
            problem="The site's protocol is not the study's.",
            fix="Install the study's protocol file at the site.",
        )


def _write_log(settings: Path, text: str) -> None:
    """Append to `site.log` beside the site's settings; it stays in the hospital."""
    try:
        with settings.with_suffix(".log").open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{text}\n")
    except OSError:
        return  # a full disk must not turn a refusal into a crash


@app.query("qualify")
def _qualify(message: Message, context: Context) -> Message:
    return _handle(message, context, QualifyRequest, qualify.answer)


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
