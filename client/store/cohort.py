"""cohort: a site's prepared cases as a training view and a test view, which never overlap.

Only `TrainingCases` holds a TrainingTable, and everything that fits takes nothing else (R5, F11).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.case import CaseRow
from client.store.feature_store import FeatureStore
from common.arrays import CaseFlags
from common.config.protocol import Protocol
from common.config.site import SiteSettings
from common.errors import Refused
from common.seeds import stream
from common.tables import FeatureTable, TestTable, TrainingTable, split_table

__all__ = ["ScoredCases", "SiteCohort", "TestCases", "TrainingCases", "assemble_cohort", "read_repeats"]

VisualArray = np.ndarray[Any, np.dtype[np.float32]]
FeatureRepeats = np.ndarray[Any, np.dtype[np.float64]]  # cases x perturbations x features


@dataclass(frozen=True)
class TrainingCases:
    """visual: (cases, length) float32, empty where it was not asked for; pseudonyms stay in the hospital."""

    table: TrainingTable
    visual: VisualArray
    pseudonyms: tuple[str, ...]


@dataclass(frozen=True)
class TestCases:
    """As TrainingCases, but nothing may be fitted on them."""

    __test__ = False  # the name is the field's; pytest must not collect it

    table: TestTable
    visual: VisualArray
    pseudonyms: tuple[str, ...]


ScoredCases = TrainingCases | TestCases


@dataclass(frozen=True)
class SiteCohort:
    """All prepared, eligible cases of a site."""

    training: TrainingCases
    test: TestCases


def read_repeats(
    rows: Sequence[CaseRow], keys: Mapping[str, str], settings: SiteSettings, protocol: Protocol
) -> FeatureRepeats:
    """(training cases measured repeatedly, perturbations, features); without cases (0, 0, features)."""
    store, ready = FeatureStore(settings.cache), _ready(rows, keys, settings)
    is_test = _split([row for row, _ in ready], settings, protocol) if ready else np.zeros(0, bool)
    found = [store.repeats(key) for (_, key), test in zip(ready, is_test, strict=True) if not test]
    kept = [repeats for repeats in found if repeats is not None]
    return np.stack(kept) if kept else np.zeros((0, 0, len(protocol.radiomics.names())))


def _ready(rows: Sequence[CaseRow], keys: Mapping[str, str], settings: SiteSettings) -> list[tuple[CaseRow, str]]:
    """Eligible cases whose features lie in the store, and their keys."""
    store = FeatureStore(settings.cache)
    found = [(row, keys.get(row.pseudonym, "")) for row in rows if not row.excluded_because]
    return [(row, key) for row, key in found if key and store.has(key)]


def assemble_cohort(
    rows: Sequence[CaseRow],
    keys: Mapping[str, str],
    settings: SiteSettings,
    protocol: Protocol,
    *,
    visual: bool = True,
) -> SiteCohort:
    """Read the prepared cases among `rows`; excluded and unprepared ones are left out.

    keys: pseudonym -> the features' key, of the cases that may enter a study.

    The split is the manifest's where every row has one, else drawn by the protocol's seed, stratified by
    class.  Refused `nothing-prepared` when no case is ready.
    """
    store = FeatureStore(settings.cache)
    ready = _ready(rows, keys, settings)
    if not ready:
        raise Refused(
            "nothing-prepared",
            site=settings.name,
            field="cohort",
            problem="No case of the site is prepared for this protocol.",
            fix="Run `fedmidline-site prepare` at the site.",
        )
    kept = [row for row, _ in ready]
    table = FeatureTable(
        protocol.radiomics.names(),
        np.stack([store.radiomics(key) for _, key in ready]),
        np.array([r.altered for r in kept]),
    )
    is_test = _split(kept, settings, protocol)
    training, test = split_table(table, is_test)

    def maps(wanted: CaseFlags) -> VisualArray:
        keys = [key for (_, key), take in zip(ready, wanted, strict=True) if take]
        if not visual or not keys:
            return np.zeros((len(keys), 0 if not visual else protocol.visual.length), np.float32)
        return np.stack([store.visual(key) for key in keys]).astype(np.float32)

    def names(wanted: CaseFlags) -> tuple[str, ...]:
        return tuple(row.pseudonym for row, take in zip(kept, wanted, strict=True) if take)

    return SiteCohort(
        TrainingCases(training, maps(~is_test), names(~is_test)), TestCases(test, maps(is_test), names(is_test))
    )


def _split(rows: Sequence[CaseRow], settings: SiteSettings, protocol: Protocol) -> CaseFlags:
    if all(row.split for row in rows):
        return np.array([row.split == "test" for row in rows])
    is_test = np.zeros(len(rows), dtype=bool)
    rng = stream(protocol.seed, settings.name, "split")
    for label in (True, False):
        members = np.flatnonzero([row.altered == label for row in rows])
        wanted = math.floor(protocol.split.test_fraction * len(members) + 1e-9)
        is_test[rng.permutation(members)[:wanted]] = True
    return is_test
