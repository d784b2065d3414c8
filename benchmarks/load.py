"""load: seventy hospitals at one server for twenty rounds, and the same again and again for an hour.

    OMP_NUM_THREADS=1 python -m benchmarks.load                     70 sites, 20 rounds
    OMP_NUM_THREADS=1 python -m benchmarks.load --soak-minutes 60   the study again and again, memory every minute
    OMP_NUM_THREADS=1 python -m benchmarks.load --sites 10 --rounds 3

The server is the real one: TLS, registered keys, door, SuperLink in process isolation, a checkpoint after every
exchange.  The hospitals are threads of one process (benchmarks/peers/light_sites.py) with a key, a connection and
eight cases each; their answers are the product's own.  Every exchange must have an answer of every site.
Memory is the server's processes together (PSS).  The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from server.app import OUTCOME, PROGRESS
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.deployment import WANTED
from server.state import Exchange
from tests.builders import small_protocol
from tests.deployed_study import ROOT, DeployedStudy, wait_until

CASES = 8
PATIENCE_S = 3600.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=70)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--soak-minutes", type=float, default=0.0)
    options = parser.parse_args()
    names = tuple(f"site-{i:03d}" for i in range(options.sites))
    protocol = small_protocol(
        selection={"method": "fixed_signature"},
        training={"rounds": options.rounds, "local_epochs": 1},
        federation={"min_sites": options.sites, "min_cases": 2, "timeout_s": 600},
    )
    with tempfile.TemporaryDirectory() as name:
        study = DeployedStudy(Path(name), protocol, names, cases=CASES)
        study.start("server")
        wait_until(lambda: _knows(study, len(names)), PATIENCE_S)
        with (study.root / "light-sites.log").open("w") as log:
            command = [sys.executable, "-m", "benchmarks.peers.light_sites", str(study.root), *names]
            hospitals = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)  # noqa: S603  # our own module
        try:
            print(json.dumps(_loaded(study, options.soak_minutes, len(names))))
        except BaseException:
            for path in (
                study.root / "light-sites.log",
                study.root / "server.log",
                study.study / "state" / "door.jsonl",
            ):
                print(path.name, path.read_text()[-3000:] if path.exists() else "is absent", sep="\n", file=sys.stderr)
            raise
        finally:
            hospitals.kill()
            study.stop()


def _knows(study: DeployedStudy, sites: int) -> bool:
    """Every key is registered; a server that ended by itself has said why."""
    if not study.running("server"):
        raise SystemExit((study.root / "server.log").read_text())
    return study.count("site-registered", "server") >= sites


def _loaded(study: DeployedStudy, soak_minutes: float, sites: int) -> dict[str, object]:
    """One study, or as many as fit."""
    server, begun = psutil.Process(study.number("server")), time.monotonic()
    memory: list[tuple[float, float]] = []
    rounds: list[float] = []
    studies = 0

    def look() -> None:
        if not memory or time.monotonic() - begun - memory[-1][0] > 10:
            memory.append((time.monotonic() - begun, _mib(server)))

    while not studies or time.monotonic() - begun < 60 * soak_minutes:
        exchanges = _one_study(study, look, end=begun + 60 * soak_minutes if studies else float("inf"))
        if exchanges is None:
            break
        state_of_all = {status for exchange in exchanges for status in exchange.roster.values()}
        if state_of_all != {"contributed"}:
            raise SystemExit(f"a site did not contribute: {state_of_all}")
        rounds += [exchange.seconds for exchange in exchanges if exchange.action == "train_round"]
        studies += 1
        print(
            f"study {studies}: {len(exchanges)} exchanges of {sites} sites, {statistics.median(rounds):.2f} s a round,"
            f" server {memory[-1][1]:.0f} MiB after {memory[-1][0] / 60:.1f} min",
            flush=True,
        )
    minutes, mib = np.array(memory).T / np.array([[60.0], [1.0]])
    later = minutes > minutes[-1] / 3
    slope = float(np.polyfit(minutes[later], mib[later], 1)[0]) if later.sum() > 2 else None
    return {
        "sites": sites,
        "studies": studies,
        "rounds": len(rounds),
        "seconds_a_round_median": statistics.median(rounds),
        "seconds_a_round_largest": max(rounds),
        "server_mib_peak": float(mib.max()),
        "server_mib_a_minute_after_the_first_third": slope,
        "minutes": float(minutes[-1]),
    }


def _one_study(study: DeployedStudy, look: Callable[[], None], *, end: float) -> list[Exchange] | None:
    """From its start to its end; its exchanges, None where the time was over first."""
    wait_until(lambda: not (study.study / WANTED).exists())
    for name in (CHECKPOINT, OUTCOME, PROGRESS):
        (study.study / name).unlink(missing_ok=True)
    if study.call("server", "run", study.study, "--detach").returncode:
        raise SystemExit("the run was not accepted")

    def ended() -> bool:
        look()
        return (study.study / OUTCOME).exists() or time.monotonic() > end

    wait_until(ended, PATIENCE_S)
    if not (study.study / OUTCOME).exists():
        return None
    outcome = json.loads((study.study / OUTCOME).read_text())
    if outcome["code"] != "finished":
        raise SystemExit(f"the study ended with {outcome}")
    return list(load_checkpoint(study.study / CHECKPOINT).exchanges)


def _mib(root: psutil.Process) -> float:
    """Proportional set size of the process and all that it started."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


if __name__ == "__main__":
    main()
