"""replay: how long the replay takes, phase by phase, and what the in-process engine saves against Ray.

    python -m benchmarks.replay --out runs/bench            all 254 cases, nothing cached
    python -m benchmarks.replay --out runs/replay --cached  the federation only, from cached features

The named peer of the federation is Flower's own simulation engine (Ray), same apps, same study, same run.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from benchmarks.peak_memory import PeakMemory
from common.config.parse import parse_settings
from common.config.protocol import Protocol
from server.checkpoint import CHECKPOINT
from simulation.cohort.make_cohort import CohortSettings
from simulation.engines import run_local, run_ray
from simulation.replay import ReplaySettings
from simulation.run_replay import run_replay
from simulation.size import at_size

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cached", action="store_true")
    options = parser.parse_args()
    memory = PeakMemory()
    memory.start()
    if not options.cached:
        _cold(options.out)
    print(f"peak memory            {memory.peak / 2**30:6.2f} GiB (PSS, all processes)")
    _federation(options.out)


def _cold(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    text = (ROOT / "site_configs" / "protocols" / "recommended.yaml").read_text()
    protocol, _ = at_size(parse_settings(Protocol, text, source="recommended.yaml"), "small")
    begun = time.monotonic()
    report = run_replay(out, protocol, ReplaySettings(), CohortSettings(), workers=2)
    print(f"whole replay, cold     {time.monotonic() - begun:6.1f} s")
    for phase, seconds in report["timings"].items():
        print(f"  {phase:<20} {seconds:6.1f} s")


def _federation(out: Path) -> None:
    study = out / "study" / "study.yaml"
    sites = sorted((out / "sites").glob("*/site.yaml"))
    seconds = {}
    for name, engine in (("local", run_local), ("ray", run_ray)):
        (study.parent / CHECKPOINT).unlink(missing_ok=True)
        begun = time.monotonic()
        state = engine(study, sites)
        seconds[name] = time.monotonic() - begun
        print(f"federation, {name:<10} {seconds[name]:6.1f} s   {state.rounds_done} rounds, {state.status()}")
    print(f"in process is {seconds['ray'] / seconds['local']:.1f} times as fast as Flower's simulation engine")


if __name__ == "__main__":
    main()
