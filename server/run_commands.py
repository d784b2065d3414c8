"""run_commands: `fedmidline-study serve | run | resume`: the server at work, and the study on it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from common.command import say, screen
from common.deployment.event_log import EventLog
from common.deployment.lock import is_held
from common.errors import InputError, QuorumLost, Refused, StudyError
from server.app import OUTCOME, PROGRESS, RUN_LOCK
from server.checkpoint import CHECKPOINT
from server.deployment import SERVE_LOCK, WANTED, read_outcome
from server.deployment import serve as serve_study
from server.study_commands import AsJson, StudyFolder, open_with_warnings

__all__ = ["running"]

running = typer.Typer()

Detach = Annotated[bool, typer.Option("--detach", help="return at once; the server goes on")]


@running.command()
def serve(
    study: StudyFolder,
    monitor_port: Annotated[
        int, typer.Option(help="page and Prometheus metrics at this port of 127.0.0.1; 0: none", min=0, max=65535)
    ] = 0,
) -> None:
    """Keep the study's server running until Ctrl-C; after any crash the same command goes on, with its run.

    Hospitals reach one TLS port; Flower's own interfaces stay on this machine.

    Example: fedmidline-study serve studies/midline
    """
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        stopped.append(number)

    opened = open_with_warnings(study)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    (opened.folder / "state").mkdir(mode=0o700, exist_ok=True)
    tell = EventLog(opened.folder / "state" / "events.jsonl")
    serve_study(opened.folder, stopped=stopped, tell=tell, monitor_port=monitor_port)


@running.command()
def run(study: StudyFolder, detach: Detach = False, as_json: AsJson = False) -> None:
    """Run the study on its running server and follow it; Ctrl-C stops following, not the run.

    Example: fedmidline-study run studies/midline
    """
    _want(study)
    _follow(study, detach=detach, as_json=as_json)


@running.command()
def resume(study: StudyFolder, detach: Detach = False, as_json: AsJson = False) -> None:
    """Go on with a study that stopped, from its last finished exchange.

    Example: fedmidline-study resume studies/midline
    """
    if not (study / CHECKPOINT).exists():
        raise InputError(
            "nothing-to-resume",
            field="STUDY_DIR",
            problem="The study has not finished any exchange.",
            fix="Begin it with `fedmidline-study run`.",
        )
    _want(study)
    _follow(study, detach=detach, as_json=as_json)


def _want(study: Path) -> None:
    """Ask the server that is up to run the study; a run at work stays as it is."""
    if not is_held(study / SERVE_LOCK):
        raise InputError(
            "server-not-running",
            field="STUDY_DIR",
            problem="The study's server is not running on this machine.",
            fix="Start it: fedmidline-study serve STUDY_DIR",
        )
    if not is_held(study / RUN_LOCK):
        (study / OUTCOME).unlink(missing_ok=True)
    (study / WANTED).touch()


def _follow(study: Path, *, detach: bool, as_json: bool) -> None:
    if detach:
        return say({"status": "wanted"}, "the server runs the study: fedmidline-study status --watch", as_json=as_json)
    shown = ""
    while (outcome := read_outcome(study)) is None:
        if not is_held(study / SERVE_LOCK):
            raise QuorumLost(
                "server-stopped",
                problem="The study's server was stopped.",
                fix="Start `fedmidline-study serve` again: the study goes on by itself.",
            )
        line = _progress(study)
        if line != shown:
            screen.print(line, markup=False, highlight=False, soft_wrap=True)
            shown = line
        time.sleep(0.5)
    if outcome["code"] != "finished":
        raise _as_error(outcome)
    say(outcome, "finished: fedmidline-study report", as_json=as_json)
    return None


def _progress(study: Path) -> str:
    try:
        row = json.loads((study / PROGRESS).read_text())
    except (FileNotFoundError, ValueError):
        return "waiting for the first exchange"
    roster = ", ".join(f"{site} {status}" for site, status in row["roster"].items())
    return f"{row['phase']} {row['action']} {row['round'] or ''} ({row['seconds']:.1f} s): {roster}"


def _as_error(outcome: dict[str, Any]) -> StudyError:
    """The ServerApp's error, with the exit code of its kind."""
    kinds: dict[int, type[StudyError]] = {3: Refused, 4: QuorumLost}
    kind = kinds.get(int(outcome["exit_code"]), InputError)
    return kind(outcome["code"], field=outcome["field"], problem=outcome["problem"], fix=outcome["fix"])
