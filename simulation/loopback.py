"""loopback: Flower's real deployment on one machine: a SuperLink, SuperNodes, and `flwr run`.

All state lies in `loopback/` beside the study's file, all traffic on 127.0.0.1.  For tests on one
machine: no TLS and no keys, which a deployment with hospitals must have.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common.errors import StudyError

__all__ = ["QUIET", "deploy_on_loopback"]

APP = Path(__file__).resolve().parents[1]
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def deploy_on_loopback(study: Path, node_configs: Sequence[Mapping[str, str]], *, timeout_s: float = 900) -> None:
    """Start everything, run the study to its end, stop everything.

    StudyError `deployment-failed` with the log's place when the run does not finish.
    """
    folder = study.parent / "loopback"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    superlink, *ports = _free_ports(1 + len(node_configs))
    address = f"127.0.0.1:{superlink}"
    (folder / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
    )
    with ExitStack() as running:
        command = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(superlink)]
        running.enter_context(_process(folder, "superlink", command))
        _wait_for_port(superlink)
        for config, port in zip(node_configs, ports, strict=True):
            text = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
            command = ["flower-supernode", "--insecure", "--superlink", address]
            command += ["--host", "127.0.0.1", "--port", str(port), "--node-config", text]
            running.enter_context(_process(folder, config["name"], command))
        _run(folder, study, timeout_s)


def _run(folder: Path, study: Path, timeout_s: float) -> None:
    """`flwr run` and its log; the stream ends with the run."""
    command = [_program("flwr"), "run", str(APP), "here", "--stream", "-c", f"study={json.dumps(str(study))}"]
    with (folder / "run.log").open("w") as log:
        done = subprocess.run(  # noqa: S603  # our own programs, arguments from our own files
            command,
            cwd=folder,
            env=_environment(folder),
            stdout=log,
            stderr=log,
            timeout=timeout_s,
            check=False,
        )
    if done.returncode != 0:
        raise StudyError(
            "deployment-failed",
            problem="The run on the SuperLink did not finish.",
            fix="Read run.log and superlink.log in the study's loopback folder.",
            local=str(folder),
        )


@contextmanager
def _process(folder: Path, name: str, command: list[str]) -> Iterator[None]:
    """A program with a home and a log of its own, stopped with all its children at the end."""
    home = folder / name
    home.mkdir()
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603  # as above
            [_program(command[0]), *command[1:]],
            cwd=home,
            env=_environment(home),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group, then SIGKILL to what is left."""
    for signal, patience in ((15, 15), (9, 5)):
        try:
            os.killpg(process.pid, signal)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **QUIET, "FLWR_HOME": str(home), "PATH": path}


def _program(name: str) -> str:
    """Flower's programs lie beside this Python."""
    return str(Path(sys.executable).parent / name)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for_port(port: int, patience_s: float = 60) -> None:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise StudyError(
        "superlink-silent",
        problem="The SuperLink did not open its port.",
        fix="Read superlink.log.",
        local=str(port),
    )
