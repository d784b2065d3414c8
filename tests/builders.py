"""builders: small hospitals for tests: prepared tables without an image, written as the store writes them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import yaml

from client.case import CaseRow
from client.ingest.manifest import COLUMNS
from client.site import Site, open_site
from client.store.cohort import SiteCohort, TestCases, TrainingCases
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.fingerprints import FingerprintBook
from client.store.identity import site_identity
from client.tasks.load_cohort import load_cohort
from client.visual_maps import VisualMaps
from common.config.protocol import Protocol
from common.config.visual import VisualSettings
from common.privacy.signing import identity_of
from common.tables import TestTable, TrainingTable


def small_protocol(**changes: object) -> Protocol:
    """2,048 visual features, three rounds: everything real, only small."""
    settings: dict[str, object] = {
        "name": "tiny",
        "visual": VisualSettings(crop_voxels=16, dtype="float32"),
        "training": {"rounds": 3, "local_epochs": 2},
        "federation": {"min_sites": 2, "min_cases": 4, "timeout_s": 60},
        **changes,
    }
    return Protocol.model_validate(settings)


Table = TypeVar("Table", TrainingTable, TestTable)
Views = Sequence[TrainingCases] | Sequence[TestCases]

OPEN_DOOR = {"min_cell": 0, "min_cases": 1, "rounding": 1}
"""Twelve invented cases have nothing to hide; tests/unit/test_egress.py has the rules."""


@dataclass(frozen=True)
class Federation:
    """study: the coordinator's file; sites: each hospital's."""

    study: Path
    sites: dict[str, Path]
    protocol: Protocol


def write_site(
    folder: Path,
    name: str,
    protocol: Protocol,
    cases: int,
    *,
    seed: int,
    one_class: bool = False,
    scanners: tuple[str, ...] = (),
    shift: float = 0.3,
) -> Path:
    """A hospital with `cases` prepared cases, half of them altered, a quarter of them test cases.

    scanners: used in turn, each with an effect of its own, `shift` deviations in size; one of the hospital's own by default.
    """
    scanners = scanners or (f"scanner of {name}",)
    home = folder / name
    home.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    store, book = FeatureStore(home / "cache"), FingerprintBook(home / "cache")
    features, rows = len(protocol.radiomics.names()), []
    for i in range(cases):
        altered = one_class or i % 2 == 0
        pseudonym = f"{name}-{i}"
        image = home / f"{pseudonym}.nii.gz"
        image.write_bytes(f"{name}{i}".encode())
        cells = dict.fromkeys(COLUMNS, "") | {
            "pseudonym": pseudonym,
            "t1ce_path": image.name,
            "flair_path": image.name,
            "label": "altered" if altered else "not_altered",
            "age_years": str(int(rng.integers(8, 80))),
            "sex": ("female", "male")[int(rng.integers(2))],
            "scanner": scanners[i % len(scanners)],
            "split": "test" if i % 4 >= 2 and i >= cases // 2 else "train",
        }
        rows.append(cells)
        at = str(image.resolve())
        row = CaseRow(pseudonym, at, at, "", "", altered, None, "", "", "", "", "")
        key = store.key(book.look_up(row, lambda r: f"{name}-{r.pseudonym}"), protocol.feature_fingerprint())
        signal = np.zeros(features)
        signal[:40] = 1.2 if altered else -1.2
        effect = np.random.default_rng(sum(scanners[i % len(scanners)].encode())).standard_normal(features)
        radiomics = (rng.standard_normal(features) + signal + shift * effect) * np.logspace(-3, 3, features)
        visual = rng.standard_normal(protocol.visual.length).astype(np.float32) + (0.2 if altered else -0.2)
        again = protocol.radiomics.perturbations
        repeats = radiomics * (1 + 0.1 * rng.standard_normal((again, features))) if again else None
        store.save(
            key, CaseFeatures(radiomics, visual.astype(protocol.visual.dtype), "made for a test", (), {}, repeats)
        )
    book.save()
    with (home / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "split"])
        writer.writeheader()
        writer.writerows(rows)
    (home / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    site = home / "site.yaml"
    settings = {"name": name, "protocol": "protocol.yaml", "manifest": "manifest.csv", "ethics_id": "synthetic"}
    site.write_text(yaml.safe_dump({**settings, "egress": OPEN_DOOR}))
    return site


def pool(federation: Federation) -> SiteCohort:
    """All cases on one computer, site by site, as they were extracted."""
    parts = [load_cohort(open_site(path)) for _, path in sorted(federation.sites.items())]
    training, test = [p.training for p in parts], [p.test for p in parts]

    def join(kind: type[Table], views: Views) -> Table:
        tables = [v.table for v in views]
        return kind(
            tables[0].names,
            np.concatenate([t.values for t in tables]),
            np.concatenate([t.altered for t in tables]),
        )

    def names(views: Views) -> tuple[str, ...]:
        return tuple(n for v in views for n in v.pseudonyms)

    def maps(views: Views) -> VisualMaps:
        return VisualMaps(tuple(row for v in views for row in v.visual), views[0].visual.length)

    return SiteCohort(
        TrainingCases(join(TrainingTable, training), maps(training), names(training)),
        TestCases(join(TestTable, test), maps(test), names(test)),
    )


def pooled_site(folder: Path, federation: Federation) -> tuple[Site, SiteCohort, dict[str, str]]:
    """A single centre whose manifest lists everybody, all cases, and who holds each pseudonym."""
    owner: dict[str, str] = {}
    rows = []
    for name, path in federation.sites.items():
        with (path.parent / "manifest.csv").open(newline="") as file:
            mine = list(csv.DictReader(file))
        owner |= {row["pseudonym"]: name for row in mine}
        rows += mine
    home = folder / "everyone"
    home.mkdir()
    with (home / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (home / "protocol.yaml").write_text(yaml.safe_dump(federation.protocol.model_dump(mode="json")))
    (home / "site.yaml").write_text(
        yaml.safe_dump({"name": "everyone", "protocol": "protocol.yaml", "manifest": "manifest.csv"})
    )
    return open_site(home / "site.yaml"), pool(federation), owner


def write_federation(
    folder: Path, protocol: Protocol, sizes: dict[str, int], scanners: dict[str, tuple[str, ...]] | None = None
) -> Federation:
    """A study with prepared hospitals of these sizes."""
    sites = {
        name: write_site(folder / "sites", name, protocol, n, seed=i, scanners=(scanners or {}).get(name, ()))
        for i, (name, n) in enumerate(sizes.items())
    }
    study = folder / "study" / "study.yaml"
    study.parent.mkdir()
    (study.parent / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    content = {"name": "trial", "protocol": "protocol.yaml", "sites": list(sizes), "join_timeout_s": 90.0}
    study.write_text(yaml.safe_dump(content))
    return Federation(study, sites, protocol)


def sum_securely(federation: Federation) -> Federation:
    """The same sites and cases; the protocol names their identities and wants sums only."""
    keys = {name: identity_of(site_identity(open_site(p).settings.cache, name)) for name, p in federation.sites.items()}
    settings = federation.protocol.model_dump(mode="json")
    settings["federation"] |= {"min_sites": 3, "secure_aggregation": True, "site_keys": keys}
    protocol = Protocol.model_validate(settings)
    for home in (federation.study.parent, *(path.parent for path in federation.sites.values())):
        (home / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    return Federation(federation.study, federation.sites, protocol)
