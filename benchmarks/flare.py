"""flare: the equal task on NVIDIA FLARE's simulator, on plain Flower's, and on ours: seconds and memory.

    python -m benchmarks.flare            10,485,760 numbers, three sites, five rounds
    python -m benchmarks.flare --quick    10,000 numbers

Federated averaging of one raw array, single precision both ways; a site adds one to it and trains nothing
(shared/notes/peers.md, section 2.1).  Each runs in a process of its own, from its start to its end; memory is the
whole process tree's.  The result is checked in each.  NVIDIA FLARE is installed into its own environment under
runs/peers, once.  The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from benchmarks.peak_memory import PeakMemory
from simulation.loopback import QUIET

FLARE = "nvflare==2.9.0"
ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / "runs" / "peers" / "nvflare-2.9.0"
SITES, ROUNDS = 3, 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(json.dumps(against_flare(10_000 if options.quick else 10_485_760)))


def against_flare(numbers: int) -> dict[str, Any]:
    """Rows by name, and ratios of ours to the peers'."""
    python, here = _flare_python(), sys.executable
    ways = {
        "ours": [here, "-m", "benchmarks.peers.our_run"],
        "nvflare": [str(python), str(ROOT / "benchmarks" / "peers" / "flare_job.py")],
        "flower": [here, "-m", "benchmarks.peers.flower_run"],
    }
    rows = {}
    for name, command in ways.items():
        rows[name] = row = _measured(command, numbers)
        print(
            f"equal task, {name:<8} {row['seconds']:7.1f} s wall, {row['cpu_seconds']:6.1f} s CPU,"
            f" peak {row['peak_mib']:6.0f} MiB",
            flush=True,
        )
    ratios = {
        f"{measure}_of_{peer}": rows["ours"][measure] / rows[peer][measure]
        for peer in ("nvflare", "flower")
        for measure in ("seconds", "cpu_seconds", "peak_mib")
    }
    return {"numbers": numbers, "sites": SITES, "rounds": ROUNDS, **rows, "ratios": ratios}


def _flare_python() -> Path:
    """Of the peer's environment, made once; an interrupted installation is begun again."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        print(f"installing {FLARE} into its own environment", flush=True)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", FLARE], check=True)  # noqa: S603  # pinned above
        ready.touch()
    return python


def _measured(command: list[str], numbers: int) -> dict[str, float]:
    """Seconds, seconds of all processors, MiB."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        whole = [*command, folder, str(numbers), str(SITES), str(ROUNDS)]
        process = subprocess.Popen(whole, cwd=ROOT, env=os.environ | QUIET, stdout=log, stderr=log)  # noqa: S603
        memory = PeakMemory(process.pid)
        memory.start()
        if process.wait():
            log.seek(0)
            raise SystemExit(f"{command}:\n{log.read()[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": memory.peak / 2**20,
    }


if __name__ == "__main__":
    main()
