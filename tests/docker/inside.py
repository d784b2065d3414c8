"""inside: `python -m tests.docker.inside cohort|images|oracle|compare`: what the attack on the containers computes in a container.

/trial is the study's home, /data all sites' images: the cohort is written, the same study is run in one process, and
the two results are compared there, with the image's own libraries.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml

from client.case import CaseRow
from client.store.fingerprints import FingerprintBook
from common.config.protocol import Protocol
from server.checkpoint import CHECKPOINT, load_checkpoint
from simulation.cohort.make_cohort import CohortSettings, make_cohort
from simulation.engines import run_local
from simulation.size import at_size
from tests.builders import small_protocol, write_site

WORK, DATA, MADE = Path("/trial"), Path("/data"), Path("/tmp/made")  # noqa: S108  # a container's own tmpfs
SITES = ("alpha", "beta", "gamma")
ROUNDS, CASES = 4, 16


def write_cohort() -> None:
    """Three hospitals: settings and prepared cases in /trial/sites, images in /data, the paths as a site will see them."""
    protocol = small_protocol(
        selection={"method": "fixed_signature"},
        training={"rounds": ROUNDS, "local_epochs": 2},
        federation={"min_sites": 2, "min_cases": 4, "timeout_s": 400},
    )
    for number, site in enumerate(SITES):
        home = WORK / "sites" / site
        write_site(MADE, site, protocol, CASES, seed=number)
        shutil.copytree(MADE / site, home, ignore=shutil.ignore_patterns("*.nii.gz"))
        for image in sorted((MADE / site).glob("*.nii.gz")):
            shutil.copy(image, DATA)
        _point_at_data(home, site)
    (WORK / "studies").mkdir()
    (WORK / "studies" / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))


def _point_at_data(home: Path, site: str) -> None:
    """Manifest and fingerprints of images that lie in /data."""
    manifest = home / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (home / "cache" / "fingerprints.json").unlink()
    book = FingerprintBook(home / "cache")
    for row in rows:
        path = str(DATA / row["t1ce_path"])
        row["t1ce_path"] = row["flair_path"] = path
        case = CaseRow(row["pseudonym"], path, path, "", "", row["label"] == "altered", None, *[""] * 5)
        book.look_up(case, lambda r: f"{site}-{r.pseudonym}")
    book.save()
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_images() -> None:
    """A hospital that has images and has prepared nothing: /trial/imaging/site, images in /trial/imaging/data."""
    site, data = WORK / "imaging" / "site", WORK / "imaging" / "data"
    site.mkdir(parents=True)
    make_cohort(data, CohortSettings(seed=3, altered=1, not_altered=1))
    protocol, _ = at_size(Protocol(name="imaging"), "small")
    (site / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    settings = {"name": "imaging", "protocol": "protocol.yaml", "manifest": "/data/manifest.csv", "workers": 1}
    (site / "site.yaml").write_text(yaml.safe_dump(settings))


def run_oracle() -> None:
    """The same study with the same sites in this process, on copies."""
    oracle = WORK / "oracle"
    shutil.copytree(WORK / "sites", oracle)
    for name in ("study.yaml", "protocol.yaml"):
        shutil.copy(WORK / "studies" / "study" / name, oracle / name)
    run_local(oracle / "study.yaml", [oracle / site / "site.yaml" for site in SITES])


def compare() -> dict[str, object]:
    """The deployment's last checkpoint against the oracle's: every weight, every histogram, every exchange."""
    found = load_checkpoint(WORK / "studies" / "study" / CHECKPOINT)
    wanted = load_checkpoint(WORK / "oracle" / CHECKPOINT)
    steps = [[(e.phase, e.action, e.round) for e in state.exchanges] for state in (found, wanted)]
    return {
        "finished": found.finished and wanted.finished,
        "rounds": wanted.rounds_done,
        "same_weights": _same(found.weights, wanted.weights),
        "same_histograms": _same(found.histograms, wanted.histograms),
        "same_exchanges": steps[0] == steps[1],
        "status": found.status(),
        "codes": sorted({f"{site} {code}" for e in found.exchanges for site, code in e.codes.items()}),
    }


def _same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


if __name__ == "__main__":
    result = {"cohort": write_cohort, "images": write_images, "oracle": run_oracle, "compare": compare}[sys.argv[1]]()
    sys.stdout.write(json.dumps(result) + "\n")
