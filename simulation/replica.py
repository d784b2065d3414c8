"""replica: one split of a prepared cohort, dealt to hospitals: what experiments over many splits begin with.

The cases are split anew for each seed (stratified, as the paper's 204/50); statistics and selection are those of the
training cases.  Federated statistics equal pooled ones, so they are taken from the sites' tables side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from client.ingest.manifest import read_manifest
from client.site import Site
from client.store.cohort import SiteCohort, TestCases, TrainingCases
from client.visual_maps import VisualMaps
from common.config.protocol import Protocol
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.networks.fused_head import initial_weights
from common.stats.moments import (
    Moments,
    combine_squares,
    combine_sums,
    finish,
    summarise_squares_array,
    summarise_sums_array,
)
from common.tables import FeatureTable, split_table
from simulation.oracle import harmonise_pooled
from simulation.partition import Partition, partition
from simulation.split import stratified_split
from simulation.statistics.estimate import federated_moments, federated_selection

__all__ = ["Replica", "deal", "first_model", "some_cases", "visual_moments"]


@dataclass(frozen=True)
class Replica:
    """Everybody's cases, and each hospital's; start: statistics, selection and first weights.

    owners: of the test cases.
    """

    protocol: Protocol
    training: TrainingCases
    test: TestCases
    owners: np.ndarray[Any, Any]
    sites: Mapping[str, TrainingCases]
    start: ModelState


def deal(site: Site, everyone: SiteCohort, protocol: Protocol, seed: int, how: Partition, wanted: int) -> Replica:
    """Split and deal; harmonise all cases on one computer, which is what the federation would get.

    site: the single centre whose manifest names the scanners; everyone: its cases, however they were split.
    """
    views = (everyone.training, everyone.test)
    pseudonyms = tuple(p for view in views for p in view.pseudonyms)
    rows = [row for view in views for row in view.visual]
    table = FeatureTable(
        views[0].table.names,
        np.concatenate([view.table.values for view in views]),
        np.concatenate([view.table.altered for view in views]),
    )
    is_test = stratified_split(table.altered.tolist(), protocol.split.test_fraction, seed=seed)
    scanner = {row.pseudonym: row.scanner for row in read_manifest(site.settings.manifest, site=site.settings.name)}
    owners = partition(
        how,
        scanners=[scanner[p] for p in pseudonyms],
        altered=table.altered.tolist(),
        is_test=is_test.tolist(),
        sites=wanted,
        seed=seed,
    )
    train, test = split_table(table, is_test)
    maps = VisualMaps(tuple(rows), everyone.training.visual.length)
    names = np.array(pseudonyms)
    cohort = SiteCohort(
        TrainingCases(train, maps.take(np.flatnonzero(~is_test).tolist()), tuple(names[~is_test])),
        TestCases(test, maps.take(np.flatnonzero(is_test).tolist()), tuple(names[is_test])),
    )
    cohort = harmonise_pooled(cohort, site, dict(zip(pseudonyms, owners, strict=True)))
    held = np.array(owners)[~is_test]
    hospitals = {name: some_cases(cohort.training, np.flatnonzero(held == name)) for name in sorted(set(owners))}
    protocol = protocol.model_copy(update={"seed": seed})
    start = first_model([cohort.training], protocol)
    return Replica(protocol, cohort.training, cohort.test, np.array(owners)[is_test], hospitals, start)


def first_model(sites: Sequence[TrainingCases], protocol: Protocol) -> ModelState:
    """Moments, selection and first weights of these sites' cases, by the federation's own estimators."""
    tables = [cases.table for cases in sites]
    found = federated_moments(tables)
    signature = federated_selection(tables, protocol.selection).chosen.names
    columns = [tables[0].names.index(name) for name in signature]
    visual = visual_moments([cases.visual for cases in sites])
    return ModelState(
        harmoniser=Harmoniser(),
        weights=initial_weights(sites[0].visual.length, len(signature), protocol.head, seed=protocol.seed),
        signature=signature,
        radiomics_mean=found.mean[columns],
        radiomics_deviation=found.deviation[columns],
        visual_mean=visual.mean.astype(np.float32),
        visual_deviation=visual.deviation.astype(np.float32),
    )


def visual_moments(sites: Sequence[VisualMaps]) -> Moments:
    """Two exchanges."""
    sums = combine_sums([summarise_sums_array(maps) for maps in sites])
    return finish(sums, combine_squares([summarise_squares_array(maps, sums.total / sums.count) for maps in sites]))


def some_cases(cases: TrainingCases, places: np.ndarray[Any, Any]) -> TrainingCases:
    """Only these, in this order."""
    table = replace(cases.table, values=cases.table.values[places], altered=cases.table.altered[places])
    return TrainingCases(table, cases.visual.take(places.tolist()), tuple(cases.pseudonyms[i] for i in places))
