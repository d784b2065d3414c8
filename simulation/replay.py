"""replay: the single-centre study again: 204/50, federated over hospitals, pooled, and each one alone.

    cohort -> split -> prepare (once) -> partition -> federated study -> oracle, local arms -> report

Everything lies in one folder; every step that is finished is not done again.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from client.site import Site, open_site
from client.tasks.prepare_cohort import PreparationReport, prepare_cohort
from common.config.protocol import Protocol
from common.config.study import Trains
from common.errors import InputError
from server.checkpoint import CHECKPOINT
from server.state import Exchange, StudyState
from simulation.engines import ENGINES
from simulation.partition import Partition, partition
from simulation.split import stratified_split

__all__ = ["ReplayFolder", "ReplaySettings", "build_sites", "federate", "prepare", "read_rows", "single_centre"]

EVERYONE = "single-centre"
OPEN_DOOR = {"min_cell": 0, "min_cases": 1, "rounding": 1}
"""Synthetic cases have nothing to hide; the report says which rules its sites had."""
SIMULATED_BUDGET = {"epsilon": 1000.0, "noise": "repeatable"}
"""So that a replay of a private protocol gives the same numbers again."""


@dataclass(frozen=True)
class ReplaySettings:
    """sites: how many, where the partition does not say; resume: go on with a study that was stopped; splits: over
    which the main comparison is repeated.
    """

    engine: Literal["local", "ray", "loopback"] = "local"
    partition: Partition = "scanner"
    sites: int = 3
    resume: bool = True
    splits: int = 10


@dataclass(frozen=True)
class ReplayFolder:
    """Where things lie in a run's folder.

    study_name: under it the hospitals keep the scores of their cases, so no two studies of a run share one.
    """

    root: Path
    protocol: Protocol
    cache: Path
    study_name: str = "replay"
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Book the wall-clock seconds of a phase."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.timings[phase] = self.timings.get(phase, 0.0) + time.monotonic() - begun

    @property
    def protocol_file(self) -> Path:
        """The protocol as this run uses it."""
        return self.root / "protocol.yaml"

    @property
    def single_centre(self) -> Path:
        """The site file of one centre that holds all cases."""
        return self.root / "single-centre" / "site.yaml"

    @property
    def study(self) -> Path:
        """The federated study's file."""
        return self.root / "study" / "study.yaml"


def prepare(
    folder: ReplayFolder,
    manifest: Path,
    *,
    workers: int,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _text: None,
) -> PreparationReport:
    """Split the cohort, write the single centre's files, prepare every case once."""
    site = single_centre(folder, manifest, workers=workers)
    with folder.timed("prepare"):
        return prepare_cohort(site, progress=progress)


def single_centre(folder: ReplayFolder, manifest: Path, *, workers: int) -> Site:
    """Split the cohort and write the files of one centre that holds all cases."""
    _write_yaml(folder.protocol_file, folder.protocol.model_dump(mode="json"))
    rows = read_rows(manifest)
    protocol = folder.protocol
    is_test = stratified_split(
        [row["label"] == "altered" for row in rows], protocol.split.test_fraction, seed=protocol.seed
    )
    for row, test in zip(rows, is_test, strict=True):
        row["split"] = "test" if test else "train"
        for column in ("t1ce_path", "flair_path", "mask_path", "brain_mask_path"):
            if row.get(column):
                row[column] = str((manifest.parent / row[column]).resolve())
    _write_site(folder, folder.single_centre, rows, EVERYONE, workers=workers)
    return open_site(folder.single_centre)


def build_sites(folder: ReplayFolder, settings: ReplaySettings, manifest: Path) -> dict[str, Path]:
    """One folder with site.yaml and manifest per hospital, from the single centre's manifest; they share its cache, because
    a case's features do not depend on who holds it.
    """
    _write_yaml(folder.protocol_file, folder.protocol.model_dump(mode="json"))
    rows = read_rows(manifest)
    owners = partition(
        settings.partition,
        scanners=[row["scanner"] for row in rows],
        altered=[row["label"] == "altered" for row in rows],
        is_test=[row["split"] == "test" for row in rows],
        sites=settings.sites,
        seed=folder.protocol.seed,
    )
    files = {}
    for name in sorted(set(owners)):
        files[name] = folder.root / "sites" / name / "site.yaml"
        mine = [row for row, owner in zip(rows, owners, strict=True) if owner == name]
        _write_site(folder, files[name], mine, name, workers=1)
    return files


def federate(
    folder: ReplayFolder,
    sites: Mapping[str, Path],
    settings: ReplaySettings,
    *,
    trains: Trains = "classifier",
    notify: Callable[[Exchange], None] = lambda _: None,
) -> StudyState:
    """Run the folder's study over the sites on the engine asked for."""
    if not settings.resume:
        (folder.study.parent / CHECKPOINT).unlink(missing_ok=True)
    _write_yaml(folder.protocol_file, folder.protocol.model_dump(mode="json"))
    _write_yaml(
        folder.study,
        {
            "name": folder.study_name,
            "protocol": str(folder.protocol_file.resolve()),
            "sites": sorted(sites),
            "trains": trains,
        },
    )
    return ENGINES[settings.engine](folder.study, [sites[name] for name in sorted(sites)], notify=notify)


def read_rows(manifest: Path) -> list[dict[str, str]]:
    """The manifest's rows as they are; the hospital's own reader checks them."""
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InputError(
            "manifest-unreadable",
            problem="The cohort's manifest cannot be read.",
            fix="Make a cohort first: fedmidline-sim cohort.",
            local=f"{manifest}: {type(error).__name__}",
        ) from None


def _write_site(folder: ReplayFolder, path: Path, rows: list[dict[str, str]], name: str, *, workers: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _write_yaml(
        path,
        {
            "name": name,
            "protocol": str(folder.protocol_file.resolve()),
            "manifest": "manifest.csv",
            "cache": str(folder.cache.resolve()),
            "workers": workers,
            "ethics_id": "synthetic",
            "egress": OPEN_DOOR,
            "budget": SIMULATED_BUDGET,
        },
    )


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False), encoding="utf-8")
    beside.replace(path)
