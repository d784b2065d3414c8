"""deployment: what a message costs in a deployment, ours against plain Flower in the same run.

    OMP_NUM_THREADS=1 python -m benchmarks.deployment --rounds 6

The work is nearly none (16 cases per site, 2,048 visual features): what is measured is the way of a message.
Plain Flower: SuperLink and SuperNodes as `flower-superlink` and `flower-supernode` start them (a new process per
message, replies looked for every three seconds), without TLS and keys.  Ours: TLS, keys, the door, the resident worker.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import yaml

from common.config.study import StudySettings
from server.checkpoint import CHECKPOINT, load_checkpoint
from simulation.engines import run_loopback
from tests.builders import small_protocol
from tests.deployed_study import SITES, DeployedStudy, wait_until


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    protocol = small_protocol(
        selection={"method": "fixed_signature"},
        training={"rounds": options.rounds, "local_epochs": 1},
        federation={"min_sites": 3, "min_cases": 4, "timeout_s": 300},
    )
    with tempfile.TemporaryDirectory() as folder:
        study = DeployedStudy(Path(folder), protocol)
        plain = _plain(study)
        ours = _ours(study)
    print(f"plain Flower 1.41   {plain:6.2f} s per round (median of {options.rounds})")
    print(f"fedmidline          {ours:6.2f} s per round")
    print(f"ratio               {ours / plain:6.2f}")


def _plain(study: DeployedStudy) -> float:
    folder = study.root / "plain"
    folder.mkdir()
    settings = StudySettings(name="plain", protocol=Path("protocol.yaml"), sites=SITES, rejoin_timeout_s=0)
    (folder / "study.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    (folder / "protocol.yaml").write_text((study.root / "protocol.yaml").read_text())
    run_loopback(folder / "study.yaml", [study.root / site / "site.yaml" for site in SITES])
    return _median(folder)


def _ours(study: DeployedStudy) -> float:
    try:
        for name in ("server", *SITES):
            study.start(name)
        wait_until(lambda: all(study.count("connected", site) for site in SITES))
        done = study.call("server", "run", study.study)
        if done.returncode:
            raise SystemExit(done.stderr)
    finally:
        study.stop()
    return _median(study.study)


def _median(folder: Path) -> float:
    exchanges = load_checkpoint(folder / CHECKPOINT).exchanges
    return statistics.median(e.seconds for e in exchanges if e.action == "train_round")


if __name__ == "__main__":
    main()
