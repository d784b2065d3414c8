"""keeper: keeps programs alive: each with its log, started again when it ends, with growing pauses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from common.deployment.event_log import EventLog, keep_small

__all__ = ["QUIET", "Keeper", "Program", "flower_program"]

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
LONGEST_PAUSE_S, STEADY_S = 20.0, 60.0


def flower_program(name: str) -> str:
    """Flower's programs lie beside this Python."""
    return str(Path(sys.executable).parent / name)


@dataclass(frozen=True)
class Program:
    """command: its first word is a path.  environment: in addition to ours."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Kept:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    failures: int = 0
    not_before: float = 0.0


class Keeper:
    """logs: the folder of the programs' logs.  together: when one ends, all are started anew."""

    def __init__(self, programs: Sequence[Program], *, logs: Path, tell: EventLog, together: bool = False) -> None:
        self._kept = [_Kept(program) for program in programs]
        self._logs = logs
        self._tell = tell
        self._together = together

    def look(self) -> bool:
        """Note what has ended and start what is due; True when something has ended since the last look."""
        for kept in self._kept:
            keep_small(self._log(kept))
        ended = [kept for kept in self._kept if kept.process is not None and kept.process.poll() is not None]
        for kept in ended:
            self._note_end(kept)
        if ended and self._together:
            for kept in self._kept:
                self._end(kept)
                kept.not_before = max(k.not_before for k in ended)
        if not ended:
            self._start_what_is_due()
        return bool(ended)

    def running(self, name: str) -> bool:
        """Is this program alive?"""
        return any(k.program.name == name and k.process is not None and k.process.poll() is None for k in self._kept)

    def restart(self, name: str) -> None:
        """End it; the next look starts it again."""
        for kept in self._kept:
            if kept.program.name == name:
                self._end(kept)

    def kill(self, name: str) -> None:
        """End it as a crash would: the next look notes it."""
        for kept in self._kept:
            if kept.program.name == name and kept.process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(kept.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End all, the last started first: SIGTERM, then SIGKILL."""
        for kept in reversed(self._kept):
            self._end(kept)

    def _log(self, kept: _Kept) -> Path:
        return self._logs / f"{kept.program.name}.log"

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for kept in self._kept:
            if kept.process is None and now >= kept.not_before:
                self._start(kept)

    def _start(self, kept: _Kept) -> None:
        command = [sys.executable, "-m", "common.deployment.child", *kept.program.command]
        root = str(Path(__file__).resolve().parents[2])
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {**os.environ, **QUIET, "PATH": beside, "PYTHONPATH": root, **kept.program.environment}
        with self._log(kept).open("ab") as log:
            kept.process = subprocess.Popen(  # noqa: S603  # our own programs with arguments from our own files
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        kept.begun = time.monotonic()
        self._tell("started", program=kept.program.name)

    def _note_end(self, kept: _Kept) -> None:
        """A program that ran long begins again at once; one that fails at once waits longer each time."""
        process, now = kept.process, time.monotonic()
        kept.process = None
        kept.failures = 0 if now - kept.begun > STEADY_S else kept.failures + 1
        pause = min(LONGEST_PAUSE_S, 0.5 * 2**kept.failures)
        kept.not_before = now + pause
        code = process.returncode if process is not None else None
        self._tell("ended", program=kept.program.name, code=code, again_in_s=pause)

    @staticmethod
    def _end(kept: _Kept) -> None:
        process, kept.process = kept.process, None
        if process is None:
            return
        for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            # The second signal also ends what the program started and left behind.
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(patience)
