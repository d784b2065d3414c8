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
from client.store.split_book import SplitBook
from client.visual_maps import VisualMaps
from common.arrays import CaseFlags
from common.config.protocol import Protocol
from common.config.site import SiteSettings
from common.errors import InputError, Refused
from common.seeds import stream
from common.tables import FeatureTable, TestTable, TrainingTable, split_table

__all__ = [
    "FeatureRepeats",
    "Members",
    "ScoredCases",
    "SiteCohort",
    "TestCases",
    "TrainingCases",
    "assemble_cohort",
    "find_members",
    "read_radiomics",
    "read_repeats",
    "split_cases",
]

FeatureRepeats = np.ndarray[Any, np.dtype[np.float64]]  # cases x perturbations x features
NO_MAP = np.zeros(0, np.float32)


@dataclass(frozen=True)
class TrainingCases:
    """visual: mapped from the store, of length 0 where it was not asked for; pseudonyms stay in the hospital.

    keys: of the cases in the feature store, empty where they lie in none.
    """

    table: TrainingTable
    visual: VisualMaps
    pseudonyms: tuple[str, ...]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestCases:
    """As TrainingCases, but nothing may be fitted on them."""

    __test__ = False  # the name is the field's; pytest must not collect it

    table: TestTable
    visual: VisualMaps
    pseudonyms: tuple[str, ...]


ScoredCases = TrainingCases | TestCases


@dataclass(frozen=True)
class SiteCohort:
    """All prepared, eligible cases of a site."""

    training: TrainingCases
    test: TestCases


@dataclass(frozen=True)
class Members:
    """Prepared, eligible cases in the manifest's order: rows; keys: in the feature store; is_test: which may only be
    scored.
    """

    rows: tuple[CaseRow, ...]
    keys: tuple[str, ...]
    is_test: CaseFlags

    @property
    def altered(self) -> CaseFlags:
        """Of the reference standard."""
        return np.array([row.altered for row in self.rows], dtype=bool)


def read_repeats(
    rows: Sequence[CaseRow], keys: Mapping[str, str], settings: SiteSettings, protocol: Protocol
) -> FeatureRepeats:
    """(training cases measured repeatedly, perturbations, features); without cases (0, 0, features)."""
    store, ready = FeatureStore(settings.cache), _ready(rows, keys, settings)
    is_test = split_cases([row for row, _ in ready], settings, protocol) if ready else np.zeros(0, bool)
    found = [store.repeats(key) for (_, key), test in zip(ready, is_test, strict=True) if not test]
    kept = [repeats for repeats in found if repeats is not None]
    return np.stack(kept) if kept else np.zeros((0, 0, len(protocol.radiomics.names())))


def _ready(rows: Sequence[CaseRow], keys: Mapping[str, str], settings: SiteSettings) -> list[tuple[CaseRow, str]]:
    """Eligible cases whose features lie in the store, and their keys."""
    store = FeatureStore(settings.cache)
    found = [(row, keys.get(row.pseudonym, "")) for row in rows if not row.excluded_because]
    return [(row, key) for row, key in found if key and store.has(key)]


def find_members(
    rows: Sequence[CaseRow], keys: Mapping[str, str], settings: SiteSettings, protocol: Protocol
) -> Members:
    """The prepared cases among `rows`; excluded and unprepared ones are left out.

    keys: pseudonym -> the features' key, of the cases that may enter a study.

    The split is the manifest's where every row has one, else drawn by the protocol's seed, stratified by
    class; a case once drawn keeps its side (client/store/split_book.py).  Refused `nothing-prepared` when no case is ready.
    """
    ready = _ready(rows, keys, settings)
    if not ready:
        raise Refused(
            "nothing-prepared",
            site=settings.name,
            field="cohort",
            problem="No case of the site is prepared for this protocol.",
            fix="Run `fedmidline-site prepare` at the site.",
        )
    kept = tuple(row for row, _ in ready)
    return Members(kept, tuple(key for _, key in ready), split_cases(kept, settings, protocol))


def read_radiomics(members: Members, settings: SiteSettings, protocol: Protocol) -> FeatureTable:
    """All members' features as they were extracted.  InputError `feature-not-finite` names features."""
    store = FeatureStore(settings.cache)
    values = np.stack([store.radiomics(key) for key in members.keys])
    table = FeatureTable(protocol.radiomics.names(), values, members.altered)
    _require_finite(table, members.rows, settings.name)
    return table


def assemble_cohort(
    members: Members, table: FeatureTable, settings: SiteSettings, protocol: Protocol, *, visual: bool = True
) -> SiteCohort:
    """Both views of the members; table: one row for each of them, in their order."""
    store, is_test = FeatureStore(settings.cache), members.is_test
    training, test = split_table(table, is_test)

    def chosen(wanted: CaseFlags) -> tuple[VisualMaps, tuple[str, ...], tuple[str, ...]]:
        places = np.flatnonzero(wanted)
        keys = tuple(members.keys[i] for i in places)
        maps = tuple(store.visual(key) if visual else NO_MAP for key in keys)
        names = tuple(members.rows[i].pseudonym for i in places)
        return VisualMaps(maps, protocol.visual.length if visual else 0), names, keys

    test_maps, test_names, _ = chosen(is_test)
    return SiteCohort(TrainingCases(training, *chosen(~is_test)), TestCases(test, test_maps, test_names))


def _require_finite(table: FeatureTable, rows: Sequence[CaseRow], site: str) -> None:
    """A sum with one NaN in it is NaN for everybody."""
    bad = ~np.isfinite(table.values)
    if bad.any():
        raise InputError(
            "feature-not-finite",
            site=site,
            field=", ".join(name for name, column in zip(table.names, bad.T, strict=True) if column.any())[:200],
            problem="Features of prepared cases are NaN or infinite.",
            fix="Prepare the cases again, or exclude them in the manifest; the site's log names them.",
            local=", ".join(row.pseudonym for row, flags in zip(rows, bad, strict=True) if flags.any()),
        )


def split_cases(rows: Sequence[CaseRow], settings: SiteSettings, protocol: Protocol) -> CaseFlags:
    """Which of these cases are tested: the manifest's word where every row has one, else drawn, stratified by class.

    Cases that were drawn before keep their side, new ones fill up the share.
    """
    if all(row.split for row in rows):
        return np.array([row.split == "test" for row in rows])
    fraction = protocol.split.test_fraction
    known = SplitBook(settings.cache, site=settings.name, seed=protocol.seed, test_fraction=fraction).tested()
    is_test = np.array([known.get(row.pseudonym, False) for row in rows], dtype=bool)
    rng = stream(protocol.seed, settings.name, "split")
    for label in (True, False):
        members = np.flatnonzero([row.altered == label for row in rows])
        new = np.array([i for i in members if rows[i].pseudonym not in known], dtype=int)
        wanted = math.floor(fraction * len(members) + 1e-9) - int(is_test[members].sum())
        is_test[rng.permutation(new)[: max(wanted, 0)]] = True
    return is_test
