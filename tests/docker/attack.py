"""attack: `python -m tests.docker.attack`: build the images, run a study in containers, attack and break it.

One line per check on standard output, then a JSON summary; exit 0 when all hold, 1 when one does not, 2 when the
machine lacks something.  `make docker-test` calls it; no test suite does.  It needs a Docker engine, or root to start
one (docker/engine.sh), and docker/wheelhouse (docker/wheelhouse.sh).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.docker.engine import ROOT, SERVER_IMAGE, SITE_IMAGE, SITES, TMP, Engine, give_to_owner, wait_until
from tests.docker.faults import check_disk, check_killed_server, check_killed_site, check_stop, check_study
from tests.docker.isolation import check_confinement, check_isolation, check_trust
from tests.docker.probes import FOREIGN
from tests.docker.report import Report

LIBRARIES = """
import ants, dcm2niix, highdicom, matplotlib.image, monai, nilearn.datasets, SimpleITK, torch
import client.app, client.features.engine.mesh, client.tasks.prepare_cohort
"""


def build(engine: Engine, report: Report) -> None:
    done = engine.compose("build", "server", "alpha", patience_s=3600)
    report.check_command("both images are built from the wheelhouse alone", done)
    if done.returncode:
        raise SystemExit(1)
    for image in (SITE_IMAGE, SERVER_IMAGE):
        labels = json.loads(engine.inspect(image, "{{json .Config.Labels}}"))
        report.check(f"{image} says what it is not for", "not a medical device" in " ".join(labels.values()))
        report.check(f"{image} runs as 10001", engine.inspect(image, "{{.Config.User}}") == "10001:10001")
        found = engine.alone(image, ("-c", FOREIGN), "--user", "0", "--cap-add", "DAC_READ_SEARCH")
        holds = (found.returncode, found.stdout.strip()) == (0, "")
        report.check(
            f"{image} holds no secret, no mirror, no wheel", holds, (found.stdout + found.stderr).strip()[:400]
        )
    loaded = engine.alone(SITE_IMAGE, ("-W", "ignore", "-c", LIBRARIES))
    report.check_command("every imaging library loads in the site's image", loaded)


def provision(engine: Engine, report: Report) -> None:
    """The product's own commands, in containers."""
    home = engine.home
    shutil.rmtree(home, ignore_errors=True)
    images = engine.work / "images"
    shutil.rmtree(images, ignore_errors=True)
    for folder in (home, home / "sites", home / "kits", home / "data", images):
        folder.mkdir(parents=True)
    give_to_owner(home, images)
    engine.inside("cohort")
    for site in SITES:
        (home / "data" / site).mkdir()
        for image in images.glob(f"{site}-*"):
            os.link(image, home / "data" / site / image.name)
    init = ("init", "/studies/study", "--protocol", "/studies/protocol.yaml", "--server", "server:8443", "--json")
    made = engine.compose("run", "--rm", "--no-deps", "-T", "server", *init)
    report.check_command("fedmidline-study init, in its container", made)
    invited = [
        engine.compose("run", "--rm", "--no-deps", "-T", "server", "invite", "/studies/study", s).returncode
        for s in SITES
    ]
    report.check("fedmidline-study invite, three kits", invited == [0, 0, 0])
    for site in SITES:
        engine.unpack_kit("study", site, home / "kits")
    engine.inside("oracle")


def prepare(engine: Engine, report: Report) -> None:
    """Registration, brain mask, N4, segmentation, features: all that writes, on a root that cannot be written."""
    engine.inside("images")
    imaging = engine.home / "imaging"
    mounts = ("-v", f"{imaging}/site:/site", "-v", f"{imaging}/data:/data:ro", "-e", "OMP_NUM_THREADS=1")
    confined = ("--network", "none", "--read-only", "--tmpfs", TMP, "--cap-drop", "ALL", *mounts)
    done = engine.docker("run", "--rm", *confined, SITE_IMAGE, "prepare", "--site", "/site/site.yaml", "--json")
    report.check_command("fedmidline-site prepare, two synthetic patients", done)


def start(engine: Engine, report: Report) -> None:
    begun = time.monotonic()
    up = [engine.compose("up", "-d", "--no-build", "server", "beta", "gamma"), engine.kit("up", "-d")]
    report.check_command("compose up: server, beta, gamma", up[0])
    report.check_command("compose up: alpha, by the compose file of its kit", up[1])
    joined = wait_until(lambda: all("connected" in engine.events(site) for site in SITES))
    report.check("three sites join over TLS", joined, f"{time.monotonic() - begun:.0f} s")


STEPS = (build, provision, prepare, start, check_confinement, check_isolation, check_trust, check_study)
FAULTS = (check_killed_site, check_killed_server, check_disk)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=Path, default=ROOT / "runs" / "docker", help="scratch, about 6 GB")
    arguments.add_argument("--keep", action="store_true", help="leave engine and images for the next call")
    arguments.add_argument(
        "--quick", action="store_true", help="without killed containers and full disks: five minutes less"
    )
    options = arguments.parse_args()
    if not (ROOT / "docker" / "wheelhouse" / "requirements.txt").exists():
        print("docker/wheelhouse is empty: sh docker/wheelhouse.sh", file=sys.stderr)
        sys.exit(2)
    report, engine = Report(), Engine(options.work.resolve())
    try:
        for step in (*STEPS, *(() if options.quick else FAULTS), check_stop):
            step(engine, report)
    finally:
        engine.kit("down", "--timeout", "5")
        engine.compose("down", "--timeout", "5")
        print(json.dumps(report.summary()))
        if engine.owned and not options.keep:
            subprocess.run(["sh", ROOT / "docker" / "engine.sh", "stop", engine.work], check=False)
            shutil.rmtree(engine.work, ignore_errors=True)
    sys.exit(1 if report.failed() else 0)


if __name__ == "__main__":
    main()
