"""start_commands: `fedmidline-site start`: join the study and stay, whatever ends or is interrupted."""

from __future__ import annotations

import json
import re
import secrets
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from client.connection import Kit, ServerSilent, greet_server, open_kit, require_match
from client.onboarding import AsJson, SiteFile
from common.command import say, screen
from common.deployment.event_log import EventLog
from common.deployment.keeper import Keeper, Program, flower_program
from common.deployment.lock import hold_lock
from common.disk_faults import disk_faults
from common.errors import StudyError

__all__ = ["start_commands"]

start_commands = typer.Typer()

NODE = re.compile(rb"SuperNode ID: (\d+)")
GAVE_UP = re.compile(rb"SSL/TLS handshake error detected|Giving up reconnection")
"""After a connection that ended in its TLS handshake the SuperNode of Flower 1.41 neither works nor ends."""


@start_commands.command()
def start(
    site: SiteFile,
    kit: Annotated[Path, typer.Option(help="the unpacked kit of this hospital")],
    state: Annotated[Path | None, typer.Option(help="folder for logs and sessions; default: beside site.yaml")] = None,
    check: Annotated[bool, typer.Option("--check", help="try everything, join nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Join the study and answer its messages until Ctrl-C; after any crash the same command goes on.

    One outgoing TLS connection; nothing comes in. The code that answers is the one installed here.

    Example: fedmidline-site start --kit hospital-a --site site.yaml
    """
    opened = open_kit(kit, datetime.now(UTC))
    require_match(opened, site)
    if check:
        greet_server(opened)
        result = {"study": opened.settings.study, "site": opened.settings.site, "server": opened.settings.server}
        say(
            result,
            f"{opened.settings.site} may join {opened.settings.study} at {opened.settings.server}",
            as_json=as_json,
        )
        return
    folder = (state or site.resolve().parent / "start").resolve()
    with disk_faults("state"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold_lock(folder / "start.lock", what="This site"):
            tell, code = EventLog(folder / "events.jsonl"), ""
            try:
                _stay(opened, site.resolve(), folder, tell)
            except StudyError as error:
                code = error.code
                raise
            finally:
                tell("stopped", site=opened.settings.site, code=code)


def _stay(kit: Kit, site: Path, folder: Path, tell: EventLog) -> None:
    """SuperNode and worker side by side until a signal; when one ends, both begin anew."""
    stopped = _on_signals()
    _wait_for_server(kit, tell, stopped)
    keeper = Keeper(_programs(kit, site, folder), logs=folder, tell=tell, together=True)
    log, node = folder / "supernode.log", folder / "node"
    _release(kit, node, tell)
    seen = log.stat().st_size if log.exists() else 0
    try:
        while not stopped:
            seen, gave_up = _read_log(log, seen, node, tell)
            if gave_up:
                tell("supernode-gave-up")
                keeper.kill("supernode")
            if keeper.look():
                require_match(kit, site)  # the worker ends when the code on the disk has changed
                _release(kit, node, tell)
                _wait_for_server(kit, tell, stopped)
            time.sleep(0.2)
    finally:
        keeper.stop()
        node.unlink(missing_ok=True)


def _programs(kit: Kit, site: Path, folder: Path) -> list[Program]:
    secret = folder / "runtime.secret"
    secret.touch(mode=0o600)
    secret.write_bytes(secrets.token_bytes(32))
    runtime = f"127.0.0.1:{_free_port()}"
    config = " ".join(
        f"{key}={json.dumps(value)}" for key, value in {"site": str(site), "name": kit.settings.site}.items()
    )
    supernode = [
        *(flower_program("flower-supernode"), "--superlink", kit.settings.server),
        *("--root-certificates", str(kit.authority), "--auth-supernode-private-key", str(kit.key)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
        *("--host", "127.0.0.1", "--port", runtime.rpartition(":")[2], "--node-config", config),
    ]
    worker = [sys.executable, "-m", "client.worker", "--runtime", runtime, "--secret-file", str(secret)]
    home = {"FLWR_HOME": str(folder / "flower")}
    return [Program("supernode", supernode, home), Program("worker", worker, home)]


def _wait_for_server(kit: Kit, tell: EventLog, stopped: list[int]) -> None:
    """Until it answers; what time cannot mend ends the command with its error."""
    pause = 1.0
    while not stopped:
        try:
            return greet_server(kit)
        except ServerSilent as error:
            tell("server-unreachable", server=kit.settings.server, again_in_s=pause)
            if pause == 1.0:
                screen.print(error.explain(), style="yellow", markup=False, highlight=False)
        _sleep(pause, stopped)
        pause = min(30.0, 2 * pause)
    return None


def _release(kit: Kit, node: Path, tell: EventLog) -> None:
    """End the session of a SuperNode that crashed, so that the round hears of it and the next one is let in."""
    from client.flower_runtime import release_session  # Flower takes a second to import

    if not node.exists():
        return
    heard = release_session(kit.settings.server, kit.authority, kit.key, int(node.read_text()))
    node.unlink()
    tell("session-released", heard=heard)


def _read_log(log: Path, seen: int, node: Path, tell: EventLog) -> tuple[int, bool]:
    """Keep the number that the server knows this site's node by; how far the SuperNode's log is read, and whether it
    gave up.
    """
    size = log.stat().st_size if log.exists() else 0
    if size < seen:
        seen = 0  # it was put aside
    if size == seen:
        return seen, False
    with log.open("rb") as file:
        file.seek(seen)
        lines = file.read(size - seen)
    whole = lines.rfind(b"\n") + 1
    for found in NODE.findall(lines[:whole]):
        node.write_text(found.decode())
        tell("connected", node=found.decode())
    return seen + whole, GAVE_UP.search(lines[:whole]) is not None


def _on_signals() -> list[int]:
    """Filled when someone asks us to stop."""
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        stopped.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopped


def _sleep(seconds: float, stopped: list[int]) -> None:
    end = time.monotonic() + seconds
    while not stopped and time.monotonic() < end:
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
