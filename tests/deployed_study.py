"""deployed_study: three provisioned hospitals and a server as real processes, for tests and benchmarks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from client.connection import Kit, open_kit
from common.config.protocol import Protocol
from server.provision.invite import invite_site
from server.provision.study import init_study, open_provisioned
from tests.builders import write_site

ROOT = Path(__file__).parents[1]
SITES = ("alpha", "beta", "gamma")


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def wait_until(what: Callable[[], object], patience_s: float = 240) -> None:
    end = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


class DeployedStudy:
    """study: the coordinator's folder; everything lies below `root`."""

    def __init__(self, root: Path, protocol: Protocol, sites: tuple[str, ...] = SITES, *, cases: int = 16) -> None:
        self.root, self.study = root, root / "study"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        door, superlink = free_ports(2)
        (root / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
        self.address = f"localhost:{door}"
        init_study(self.study, root / "protocol.yaml", server=self.address, superlink_port=superlink)
        for number, site in enumerate(sites):
            write_site(root, site, protocol, cases, seed=number)
            unpack(invite_site(open_provisioned(self.study), site), root / "kits")

    def kit(self, site: str) -> Kit:
        """As the hospital opened it."""
        return open_kit(self.root / "kits" / site, datetime.now(UTC))

    def command(self, side: str, *words: object) -> list[str]:
        """`fedmidline-study` for server, `fedmidline-site` for client."""
        return [sys.executable, "-c", f"from {side}.cli import main; main()", *map(str, words)]

    def call(self, side: str, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(side, *words),
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    def start(self, name: str, *options: object, environment: Mapping[str, str] | None = None) -> None:
        """`server`, or a site's name; with options of its command, and more environment."""
        serve = ("server", "serve", self.study)
        site = ("client", "start", "--kit", self.root / "kits" / name, "--site", self.root / name / "site.yaml")
        words = self.command(*(serve if name == "server" else site), *options)
        environment = {**self._environment(), **(environment or {})}
        with (self.root / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        """As a power cut does; its children go with it."""
        self._processes[name].send_signal(signal.SIGKILL)
        self._processes.pop(name).wait()

    def ended(self, name: str, patience_s: float) -> int:
        """The exit code of one that ends by itself."""
        return self._processes.pop(name).wait(patience_s)

    def stop(self) -> dict[str, int]:
        """End everything, kindly; exit codes."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        return {name: process.wait(60) for name, process in self._processes.items()}

    def events(self, name: str) -> list[dict[str, Any]]:
        """The structured log of the server or of a site."""
        path = self.study / "state" if name == "server" else self.root / name / "start"
        return read_lines(path / "events.jsonl")

    def count(self, event: str, name: str) -> int:
        """How often it stands in that log."""
        return sum(row["event"] == event for row in self.events(name))

    def number(self, name: str) -> int:
        """Of its process."""
        return self._processes[name].pid

    def running(self, name: str) -> bool:
        """It has not ended by itself."""
        return self._processes[name].poll() is None

    def children(self, name: str, word: str) -> list[int]:
        """Process numbers of what `name` started, by a word of their command line."""
        return [number for number, line in _children_of(self._processes[name].pid) if word in line]

    def server_app(self) -> int:
        """The process of the run at work, which Flower's executor started."""
        (executor,) = self.children("server", "flower-superexec")
        ((number, _),) = _children_of(executor)
        return number

    @staticmethod
    def _environment() -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1"}


def _children_of(parent: int) -> list[tuple[int, str]]:
    """(process number, command line)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append((int(entry.name), (entry / "cmdline").read_text()))
        except (OSError, ValueError):
            continue
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a structured log; a line that is being written is not one yet."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def unpack(path: Path, into: Path) -> Path:
    """An archive as the hospital unpacks it."""
    with tarfile.open(path) as archive:
        archive.extractall(into, filter="data")
    return into / path.stem
