"""deployment: the coordinator's side at work: SuperLink, its executor and the door kept alive, keys registered, and
a run that is wanted begun again for as long as it is not finished.

    state/wanted        there while the study should run, and the number of its run; `run` and `resume` make it
    state/run.lock      held by the ServerApp at work
    outcome.json        how its last run ended: finished, or the error that time alone does not mend
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flwr

from common.deployment.application import application_fingerprint
from common.deployment.event_log import EventLog
from common.deployment.keeper import QUIET, Keeper, Program, flower_program
from common.deployment.lock import hold_lock, is_held
from common.errors import InputError, ProtocolMismatch
from server.app import OUTCOME, RUN_LOCK
from server.provision.registry import Invitation, load_registry
from server.provision.study import Provisioned, open_provisioned
from server.provision.write import write_file

__all__ = ["SERVE_LOCK", "WANTED", "Deployment", "read_outcome", "require_path_without_space", "serve"]

SERVE_LOCK, WANTED = "state/serve.lock", "state/wanted"
APP = Path(__file__).resolve().parents[1]
HERE = "here"
FLWR_TIMEOUT_S = 120
STARTING_S = 90.0
"""How long a submitted run may take until its ServerApp holds the lock."""


def read_outcome(study: Path) -> dict[str, Any] | None:
    """How the last run ended; None while none has."""
    try:
        outcome: dict[str, Any] = json.loads((study / OUTCOME).read_text())
    except FileNotFoundError:
        return None
    return outcome


def serve(study: Path, *, stopped: list[int], tell: EventLog, monitor_port: int = 0) -> None:
    """Keep everything running until `stopped` is filled; monitor_port: of the page on loopback, 0 for none.

    InputError `no-site-invited`, `port-taken`, `installed-path-with-space`; ProtocolMismatch `application-differs`;
    Refused `already-running`.
    """
    opened = open_provisioned(study)
    if not (opened.folder / "study.yaml").exists():
        raise InputError(
            "no-site-invited",
            field="STUDY_DIR",
            problem="The study has no site.",
            fix="fedmidline-study invite, once per hospital.",
        )
    if application_fingerprint() != opened.settings.application:
        raise ProtocolMismatch(
            "application-differs",
            field="application",
            problem="The installed code is not the one the study was provisioned with.",
            fix="Install that release again: every hospital's kit names its fingerprint.",
        )
    (opened.folder / "state").mkdir(mode=0o700, exist_ok=True)
    with hold_lock(opened.folder / SERVE_LOCK, what="This study's server"):
        ports = {"port": opened.settings.port, "superlink_port": opened.settings.superlink_port}
        for name, port in (ports | ({"monitor-port": monitor_port} if monitor_port else {})).items():
            _require_free(name, port)
        require_path_without_space(Path(flwr.__file__))
        deployment = Deployment(opened, tell, monitor_port)
        try:
            while not stopped:
                deployment.look()
                time.sleep(0.25)
        finally:
            deployment.close()
            tell("stopped")


@dataclass
class Deployment:
    """The processes of one provisioned study."""

    study: Provisioned
    tell: EventLog
    monitor_port: int = 0
    keeper: Keeper = field(init=False)
    submitted: float = 0.0
    seen_running: bool = False
    ready: bool = False

    def __post_init__(self) -> None:
        state = self.state
        secret = state / "superexec.secret"
        write_file(secret, secrets.token_bytes(32), secret=True)
        (state / "cli").mkdir(exist_ok=True)
        write_file(
            state / "cli" / "config.toml",
            f'[superlink]\ndefault = "{HERE}"\n\n[superlink.{HERE}]\naddress = "{self._address}"\n'
            f"root-certificates = {json.dumps(str(self.study.pki / 'ca.crt'))}\n".encode(),
        )
        self.keeper = Keeper(self._programs(secret), logs=state, tell=self.tell)

    @property
    def state(self) -> Path:
        """Where logs, homes and the database lie."""
        return self.study.folder / "state"

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self.study.settings.superlink_port}"

    def look(self) -> None:
        """One turn: start what has ended, register new keys, begin the run that is wanted."""
        self.keeper.look()
        if not _answers(self.study.settings.superlink_port):
            return
        if not self.ready:
            self.ready = True
            ports = {"port": self.study.settings.port, "monitor_port": self.monitor_port}
            self.tell("ready", server=self.study.settings.server, **ports)
        self._register_new_keys()
        self._run_if_wanted()

    def close(self) -> None:
        """Stop every process."""
        self.keeper.stop()

    def _programs(self, secret: Path) -> list[Program]:
        pki, state = self.study.pki, self.state
        tls = ["--ssl-ca-certfile", str(pki / "ca.crt"), "--ssl-certfile", str(pki / "server.crt")]
        shared = ["--superexec-auth-secret-file", str(secret)]
        superlink = [
            *(flower_program("flower-superlink"), "--host", "127.0.0.1", "--port", self._address.rpartition(":")[2]),
            *(*tls, "--ssl-keyfile", str(pki / "server.key"), "--enable-supernode-auth"),
            *("--isolation", "process", *shared, "--database", str(state / "superlink.db")),
            "--disable-runtime-dependency-installation",
        ]
        superexec = [
            *(flower_program("flower-superexec"), "--root-certificates", str(pki / "ca.crt")),
            *("--runtime-api-address", self._address, *shared),
        ]
        door = [sys.executable, "-m", "server.fleet_door", str(self.study.folder)]
        home = {"FLWR_HOME": str(state / "flower"), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2"}
        monitor = [sys.executable, "-m", "server.monitor", str(self.study.folder), "--port", str(self.monitor_port)]
        shown = [Program("monitor", monitor)] if self.monitor_port else []
        return [
            *(Program("superlink", superlink, home), Program("superexec", superexec, home), Program("door", door)),
            *shown,
        ]

    def _register_new_keys(self) -> None:
        """Flower admits a key only when it was registered; the door refuses those that were revoked since."""
        for invitation in load_registry(self.study.folder).invitations:
            known = self.state / "cli" / f"{invitation.site}.pub"
            line = invitation.public_key + "\n"
            if invitation.revoked is None and not (known.exists() and known.read_text() == line):
                self._register(invitation, known)

    def _register(self, invitation: Invitation, known: Path) -> None:
        key = known.with_suffix(".new")
        write_file(key, invitation.public_key.encode() + b"\n")
        done = self._flwr("supernode", "register", str(key), HERE, "--name", invitation.site)
        text = done.stdout + done.stderr
        if done.returncode == 0 or "already" in text:
            key.replace(known)
            self.tell("site-registered", site=invitation.site)
        else:
            self.tell("site-not-registered", site=invitation.site, reason=text.strip()[-300:])

    def _run_if_wanted(self) -> None:
        """Submit the run when none is at work and none has ended for good."""
        wanted = self.study.folder / WANTED
        if not wanted.exists():
            return
        # The lock before the outcome: a run writes the one before it lets go of the other.
        at_work = is_held(self.study.folder / RUN_LOCK)
        outcome = read_outcome(self.study.folder)
        if outcome is not None:
            self.tell("run-ended", run=wanted.read_text(), code=outcome["code"])
            wanted.unlink()
            self.submitted, self.seen_running = 0.0, False
            return
        if at_work:
            self.seen_running = True
            return
        if self.submitted and not self.seen_running and time.monotonic() - self.submitted < STARTING_S:
            return
        if lost := wanted.read_text():
            self.tell("run-lost", run=lost)
            self._flwr("stop", lost, HERE)
        self._submit(wanted)

    def _submit(self, wanted: Path) -> None:
        config = f"study={json.dumps(str(self.study.folder / 'study.yaml'))}"
        done = self._flwr("run", str(APP), HERE, "--format", "json", "-c", config)
        self.submitted, self.seen_running = time.monotonic(), False
        try:
            run = str(json.loads(done.stdout)["run-id"])
        except (ValueError, KeyError):
            self.tell("run-not-accepted", reason=(done.stdout + done.stderr).strip()[-300:])
            return
        write_file(wanted, run.encode())
        self.tell("run-submitted", run=run)

    def _flwr(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Flower's own command, which reaches the control interface on loopback."""
        command = [flower_program("flwr"), *words]
        environment = {**os.environ, **QUIET, "FLWR_HOME": str(self.state / "cli")}
        try:
            return subprocess.run(  # noqa: S603  # our own arguments
                command,
                cwd=self.state,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=FLWR_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"no answer within {FLWR_TIMEOUT_S} s")


def require_path_without_space(flower: Path) -> None:
    """Flower's SuperLink lists the folders of its database's versions with spaces between: it would find none, make no
    table, and answer every request with an internal error.
    """
    if " " in str(flower):
        raise InputError(
            "installed-path-with-space",
            field="PATH",
            problem="The software is installed in a folder with a space in its path, where Flower's database fails.",
            fix="Move the installation to a path without a space, and run its setup again.",
            local=str(flower.parent),
        )


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _require_free(field_name: str, port: int) -> None:
    if _answers(port):
        raise InputError(
            "port-taken",
            field=field_name,
            problem=f"Another program listens on port {port}.",
            fix="Stop it, or change the port in deployment.yaml.",
        )
