"""run_search: the search inside the training set of a replay's prepared cohort, and its table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.disk import write_whole
from client.ingest.manifest import read_manifest
from client.site import open_site
from client.tasks.load_cohort import load_cohort
from simulation.journal import Journal
from simulation.oracle import harmonise_pooled
from simulation.partition import Partition, partition
from simulation.search import search

__all__ = ["parse_grid", "run_search"]


def run_search(
    out: Path,
    grid: Mapping[str, Sequence[float | int | str]],
    *,
    folds: int,
    how: Partition,
    sites: int,
    resume: bool,
    progress: Callable[[int, str], None],
) -> dict[str, Any]:
    """Writes search.json into the replay's folder `out`; what is finished lies in search.jsonl beside it."""
    journal = out / "search.jsonl"
    if not resume:
        journal.unlink(missing_ok=True)
    site = open_site(out / "single-centre" / "site.yaml")
    cases = load_cohort(site).training
    rows = {row.pseudonym: row for row in read_manifest(site.settings.manifest, site=site.settings.name)}
    owners = partition(
        how,
        scanners=[rows[p].scanner for p in cases.pseudonyms],
        altered=cases.table.altered.tolist(),
        is_test=[False] * len(cases.pseudonyms),
        sites=sites,
        seed=site.protocol.seed,
    )
    told = dict(zip(cases.pseudonyms, owners, strict=True))
    found, chosen = search(
        cases,
        owners,
        site.protocol,
        grid,
        folds=folds,
        harmonise=lambda cohort: harmonise_pooled(cohort, site, told),
        journal=Journal(journal),
        progress=progress,
    )
    table = {
        "folds": folds,
        "cases": len(owners),
        "sites": sorted(set(owners)),
        "chosen": dict(chosen),
        "settings": [
            {
                "setting": dict(row.setting),
                "auc": list(row.auc),
                "mean": row.mean,
                "se": float(np.std(row.auc, ddof=1) / np.sqrt(folds)),
                "log_loss": float(np.mean(row.log_loss)),
            }
            for row in found
        ],
    }
    write_whole(out / "search.json", json.dumps(table, indent=1).encode(), field="out")
    return table


def parse_grid(texts: Sequence[str]) -> dict[str, list[float | int | str]]:
    """`training.learning_rate=0.03,0.1` -> {"training.learning_rate": [0.03, 0.1]}; numbers where they are numbers."""
    grid: dict[str, list[float | int | str]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        grid[name.strip()] = [_value(word.strip()) for word in values.split(",") if word.strip()]
    return grid


def _value(word: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
