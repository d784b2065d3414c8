"""scale: what a study costs with 3, 10, 100 and 1,000 virtual sites on this machine.

    python -m benchmarks.scale            3, 10, 100 and 1,000 sites, in process
    python -m benchmarks.scale --quick    3, 10 and 30
    python -m benchmarks.scale --engine ray --sites 10

Every site has eight cases of 1,702 radiomics and 2,048 visual features; all phases, three rounds.  Each number of
sites runs in a process of its own, whose peak memory is that of the whole process tree; the first row is what Python,
torch and Flower take before there are many sites.  The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from benchmarks.peak_memory import PeakMemory
from server.state import Exchange
from simulation.engines import ENGINES
from tests.builders import small_protocol, write_federation

CASES = 8
SITES, QUICK = (3, 10, 100, 1000), (3, 10, 30)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sites", type=int, nargs="+", help="other numbers of sites")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(one_study(options.only, options.engine)))
        return
    rows = []
    for sites in options.sites or (QUICK if options.quick else SITES):
        command = [sys.executable, "-m", "benchmarks.scale", "--only", str(sites), "--engine", options.engine]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  # this module
        if done.returncode:
            raise SystemExit(done.stderr)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(
            "{sites:6d} sites {seconds:8.1f} s  {milliseconds_a_site_and_exchange:6.1f} ms a site and exchange"
            "  peak {peak_mib:7.0f} MiB, {kib_a_site:7.0f} KiB a site   {status}".format(**rows[-1]),
            flush=True,
        )
    print(json.dumps({"engine": options.engine, "rows": rows}))


def one_study(sites: int, engine: str) -> dict[str, object]:
    """Write the hospitals, then run the study and measure only that."""
    names = {f"site-{i:04d}": CASES for i in range(sites)}
    federation = {"min_sites": 2, "min_cases": 4, "timeout_s": 3600}
    with tempfile.TemporaryDirectory() as folder:
        made = write_federation(Path(folder), small_protocol(federation=federation), names)
        before = psutil.Process().memory_full_info().pss
        memory = PeakMemory()
        memory.start()
        begun = time.perf_counter()
        state = ENGINES[engine](made.study, list(made.sites.values()))
        seconds = time.perf_counter() - begun
    return {
        "sites": sites,
        "seconds": seconds,
        "milliseconds_a_site_and_exchange": 1000 * seconds / sites / len(state.exchanges),
        "peak_mib": memory.peak / 2**20,
        "kib_a_site": (memory.peak - before) / 2**10 / sites,
        "bytes_up_a_site": sum(next(iter(e.bytes_up.values()), 0) for e in state.exchanges),
        "seconds_by_action": _by_action(state.exchanges),
        "status": state.status(),
    }


def _by_action(exchanges: Iterable[Exchange]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for exchange in exchanges:
        seconds[exchange.action] = seconds.get(exchange.action, 0.0) + exchange.seconds
    return seconds


if __name__ == "__main__":
    main()
