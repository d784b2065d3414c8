"""app: Flower's door to the coordinator: read the study's folder, run it, leave the result there.

The run configuration holds one value, `study`: the path of study.yaml.  Beside it the run writes
checkpoint.npz after every exchange; a run that finds one goes on from it.  One run at a time: the lock of a run that
was killed is free at once.  progress.json tells the last exchange, outcome.json how the run ended; run.jsonl is the log of
both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.config.study import StudySettings
from common.deployment.event_log import EventLog
from common.deployment.lock import hold_lock
from common.disk_faults import disk_faults
from common.errors import ConfigError, StudyError
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.patient_grid import PatientGrid
from server.phases.select import fixed_selection
from server.retraining import start_from
from server.state import Exchange, StudyState
from server.workflow import run_study, wait_for_sites

__all__ = ["OUTCOME", "PROGRESS", "RUN_LOCK", "RUN_LOG", "app", "open_study"]

OUTCOME, PROGRESS, RUN_LOCK, RUN_LOG = "outcome.json", "progress.json", "run.lock", "run.jsonl"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, or go on with, the study that the run configuration names."""
    path = Path(str(context.run_config["study"]))
    with hold_lock(path.parent / RUN_LOCK, what="A run of this study"):
        tell = partial(EventLog(path.parent / RUN_LOG, echo=False), run=str(context.run_id))
        try:
            _run(grid, path, tell)
        except StudyError as error:
            told = {word: getattr(error, word) for word in ("code", "field", "problem", "fix", "exit_code")}
            _write(path.parent / OUTCOME, told)
            tell("run-ended", **told)
            raise
        _write(path.parent / OUTCOME, {"code": "finished"})
        tell("run-ended", code="finished")


def _run(grid: Grid, path: Path, tell: Callable[..., None]) -> None:
    settings, state = open_study(path)
    with disk_faults("study"):
        tell("run-began", study=state.study, rounds_done=state.rounds_done)
    if settings.rejoin_timeout_s:
        grid = PatientGrid(grid, patience_s=settings.rejoin_timeout_s)
    wait_for_sites(grid, len(settings.sites), settings.join_timeout_s)

    def notify(exchange: Exchange) -> None:
        row = exchange.model_dump(mode="json")
        with disk_faults("study"):
            tell("exchange", **row)
            _write(path.parent / PROGRESS, row)

    run_study(grid, state, checkpoint=path.parent / CHECKPOINT, notify=notify)


def _write(path: Path, row: dict[str, Any]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(row))
    beside.replace(path)


def open_study(path: Path) -> tuple[StudySettings, StudyState]:
    """The study's settings and its state: the checkpoint's if there is one, else a new one.

    ConfigError when the checkpoint belongs to another protocol or other sites.
    """
    settings = parse_settings(StudySettings, path.read_text(encoding="utf-8"), source=path.name)
    protocol_file = path.parent / settings.protocol
    protocol = parse_settings(Protocol, protocol_file.read_text(encoding="utf-8"), source=protocol_file.name)
    checkpoint = path.parent / CHECKPOINT
    if not checkpoint.exists():
        return settings, _new_study(settings, protocol, path.parent)
    state = load_checkpoint(checkpoint)
    same = state.protocol.fingerprint() == protocol.fingerprint() and state.trains == settings.trains
    if not same or set(state.sites) != set(settings.sites):
        raise ConfigError(
            "checkpoint-of-another-study",
            field="protocol, sites, trains",
            problem="The folder holds a checkpoint of another protocol, of other sites or of another kind of study.",
            fix="Start in a new folder, or restore the study's own protocol and site list.",
        )
    return settings, state


def _new_study(settings: StudySettings, protocol: Protocol, folder: Path) -> StudyState:
    """The first state; a pre-registered signature is chosen, and a released model taken, before any site is asked."""
    fixed = protocol.selection.method == "fixed_signature"
    state = StudyState(
        study=settings.name,
        protocol=protocol,
        sites=tuple(sorted(settings.sites)),
        trains=settings.trains,
        replaces=settings.replaces,
        selection=fixed_selection(len(protocol.radiomics.names())) if fixed else None,
    )
    return state if settings.start is None else start_from(state, folder / settings.start)
