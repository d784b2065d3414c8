"""compare: ways of training side by side, over several splits of one prepared cohort.

For each seed the cases are split anew (stratified, as the paper's 204/50) and dealt to the hospitals; statistics and
selection are those of the training cases; every arm is judged on the same test cases.  Arms train without messages
(simulation/federated_training.py: the same numbers as the study's).  Federated statistics equal pooled ones, so the
federated arms take them from the pool.

    federated       as the protocol says             pooled          one computer with all cases
    alone           each hospital by itself          one_shot        mean score of the hospitals' own models
    fedavg ...      another strategy                 adamw, adamw_pooled   AdamW at 1e-4, averaged
    radiomics_only, visual_only                      t1ce_radiomics, flair_radiomics: one sequence, no visual map
    relu_none, relu_paper_literal                    hidden_64       64 hidden units
    channel_means   the map's channels averaged  int8 ...        another encoding of the updates
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from client.ingest.manifest import read_manifest
from client.site import Site, open_site
from client.store.cohort import SiteCohort, TestCases, TrainingCases
from client.tasks.load_cohort import load_cohort
from client.training.score import safety_margins
from client.visual_maps import VisualMaps
from common.config.protocol import Protocol
from common.config.training import Encoding, StrategyName
from common.errors import ConfigError
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.metrics.roc import auc
from common.networks.fused_head import initial_weights
from common.stats.moments import Moments, finish, summarise_squares_array, summarise_sums_array
from common.tables import FeatureTable, split_table
from simulation.federated_training import federated_training
from simulation.oracle import harmonise_pooled
from simulation.partition import Partition, partition
from simulation.split import stratified_split
from simulation.statistics.estimate import federated_moments, federated_selection

__all__ = ["ARMS", "ArmResult", "compare"]

Scores = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class ArmResult:
    """auc: of each seed; bytes_up: mean of one site's update per round, 0 where nothing travels."""

    name: str
    auc: tuple[float, ...]
    bytes_up: float = 0.0


@dataclass(frozen=True)
class _Replica:
    """One split of the cohort: everybody's cases, and each hospital's; start: the pooled statistics and selection."""

    protocol: Protocol
    training: TrainingCases
    test: TestCases
    sites: Mapping[str, TrainingCases]
    start: ModelState


@dataclass(frozen=True)
class _Judged:
    """Safety margins of the test cases, by the arm or by its parts."""

    margins: Mapping[str, Scores]
    bytes_up: float = 0.0


Arm = Callable[[_Replica], _Judged]


def compare(
    site_file: Path,
    arms: Sequence[str],
    seeds: Sequence[int],
    *,
    protocol: Protocol | None = None,
    how: Partition = "scanner",
    sites: int = 3,
    progress: Callable[[int, str], None] = lambda _seed, _arm: None,
) -> list[ArmResult]:
    """Test AUC of every arm and seed.

    site_file: of the single centre that holds the prepared cohort; protocol: its own unless given.
    """
    unknown = sorted(set(arms) - set(ARMS))
    if unknown:
        raise ConfigError(
            "arm-unknown",
            field=", ".join(unknown)[:80],
            problem="There is no arm of this name.",
            fix=f"Take some of: {', '.join(ARMS)}.",
        )
    torch.set_num_threads(1)
    site = open_site(site_file)
    everyone = load_cohort(site)
    found: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    for seed in seeds:
        replica = _replica(site, everyone, protocol or site.protocol, seed, how, sites)
        for name in arms:
            progress(seed, name)
            judged = ARMS[name](replica)
            for part, margins in judged.margins.items():
                line = f"{name}: {part}" if part else name
                found.setdefault(line, []).append(auc(margins, replica.test.table.altered))
                sizes.setdefault(line, []).append(judged.bytes_up)
    return [ArmResult(name, tuple(values), float(np.mean(sizes[name]))) for name, values in found.items()]


def _replica(site: Site, everyone: SiteCohort, protocol: Protocol, seed: int, how: Partition, wanted: int) -> _Replica:
    """Split and deal; harmonise all cases on one computer, which is what the federation would get."""
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
    hospitals = {name: _part(cohort.training, np.flatnonzero(held == name)) for name in sorted(set(owners))}
    protocol = protocol.model_copy(update={"seed": seed})
    return _Replica(protocol, cohort.training, cohort.test, hospitals, _start(cohort.training, protocol))


def _start(cases: TrainingCases, protocol: Protocol) -> ModelState:
    """Moments, selection and first weights of these cases, by the federation's own estimators."""
    found = federated_moments([cases.table])
    signature = federated_selection([cases.table], protocol.selection).chosen.names
    columns = [cases.table.names.index(name) for name in signature]
    visual = _visual_moments(cases.visual)
    return ModelState(
        harmoniser=Harmoniser(),
        weights=initial_weights(cases.visual.length, len(signature), protocol.head, seed=protocol.seed),
        signature=signature,
        radiomics_mean=found.mean[columns],
        radiomics_deviation=found.deviation[columns],
        visual_mean=visual.mean.astype(np.float32),
        visual_deviation=visual.deviation.astype(np.float32),
    )


def _visual_moments(maps: VisualMaps) -> Moments:
    sums = summarise_sums_array(maps)
    return finish(sums, summarise_squares_array(maps, sums.total / sums.count))


def _part(cases: TrainingCases, places: np.ndarray[Any, Any]) -> TrainingCases:
    table = replace(cases.table, values=cases.table.values[places], altered=cases.table.altered[places])
    return TrainingCases(table, cases.visual.take(places.tolist()), tuple(cases.pseudonyms[i] for i in places))


def _margins(model: ModelState, replica: _Replica) -> Scores:
    return safety_margins(replica.test.table, replica.test.visual, model, head=replica.protocol.head, device="cpu")


def _with_training(replica: _Replica, **training: Any) -> _Replica:
    """The protocol with other training settings."""
    settings = type(replica.protocol.training).model_validate({**replica.protocol.training.model_dump(), **training})
    return replace(replica, protocol=replica.protocol.model_copy(update={"training": settings}))


def _federated(replica: _Replica, **training: Any) -> _Judged:
    changed = _with_training(replica, **training)
    run = federated_training(changed.sites, changed.start, changed.protocol)
    return _Judged({"": _margins(run.model, changed)}, float(np.mean(run.bytes_up)))


def _here(replica: _Replica, **training: Any) -> Protocol:
    """For one computer: nothing travels, so nothing is rounded."""
    return _with_training(replica, **{"encoding": "float32", "broadcast": "float32", **training}).protocol


def _pooled(replica: _Replica, **training: Any) -> _Judged:
    run = federated_training({"all": replica.training}, replica.start, _here(replica, **training))
    return _Judged({"": _margins(run.model, replica)})


def _alone(replica: _Replica) -> _Judged:
    """Each hospital's statistics, selection and training are its own."""
    protocol = _here(replica)
    models = {
        name: federated_training({name: cases}, _start(cases, protocol), protocol).model
        for name, cases in replica.sites.items()
    }
    return _Judged({name: _margins(model, replica) for name, model in models.items()})


def _one_shot(replica: _Replica) -> _Judged:
    """Models travel once, after training; their scores are averaged by cases (Guha et al. 2019, arXiv 1902.11175)."""
    alone = _alone(replica).margins
    cases = np.array([len(replica.sites[name].table) for name in alone], dtype=float)
    scores = cases / cases.sum() @ np.stack([1 / (1 + np.exp(-margins)) for margins in alone.values()])
    return _Judged({"": np.log(scores) - np.log1p(-scores)})


def _with_head(replica: _Replica, **head: Any) -> _Judged:
    settings = type(replica.protocol.head).model_validate({**replica.protocol.head.model_dump(), **head})
    protocol = replica.protocol.model_copy(update={"head": settings})
    return _federated(replace(replica, protocol=protocol, start=_fresh(replica.start, protocol)))


def _fresh(start: ModelState, protocol: Protocol) -> ModelState:
    """The same statistics with first weights of another shape."""
    weights = initial_weights(len(start.visual_mean), len(start.signature), protocol.head, seed=protocol.seed)
    return start.model_copy(update={"weights": weights})


def _with_maps(replica: _Replica, change: Callable[[VisualMaps], VisualMaps]) -> _Replica:
    training = replace(replica.training, visual=change(replica.training.visual))
    visual = _visual_moments(training.visual)
    moments = {"visual_mean": visual.mean.astype(np.float32), "visual_deviation": visual.deviation.astype(np.float32)}
    return replace(
        replica,
        start=_fresh(replica.start.model_copy(update=moments), replica.protocol),
        training=training,
        test=replace(replica.test, visual=change(replica.test.visual)),
        sites={name: replace(cases, visual=change(cases.visual)) for name, cases in replica.sites.items()},
    )


def _nothing(maps: VisualMaps) -> VisualMaps:
    """One visual feature that is always zero."""
    return VisualMaps.of(np.zeros((len(maps), 1), np.float32))


def _channel_means(replica: _Replica) -> _Judged:
    channels = replica.protocol.visual.channels

    def average(maps: VisualMaps) -> VisualMaps:
        rows = [row.reshape(channels, -1).mean(axis=1, dtype=np.float64) for row in maps]
        return VisualMaps.of(np.array(rows, np.float32).reshape(len(maps), channels))

    return _federated(_with_maps(replica, average))


def _radiomics_only(replica: _Replica, sequence: str = "") -> _Judged:
    """No visual map; only features of one sequence where one is named (the others are made constant)."""
    bare = _with_maps(replica, _nothing)
    if not sequence:
        return _federated(bare)
    kept = np.array([name.startswith(f"{sequence}_") for name in replica.training.table.names])

    def blank(cases: Any) -> Any:
        return replace(cases, table=cases.table.with_values(np.where(kept, cases.table.values, 0.0)))

    sites = {name: blank(cases) for name, cases in bare.sites.items()}
    training = blank(bare.training)
    start = _start(training, bare.protocol)
    return _federated(replace(bare, training=training, test=blank(bare.test), sites=sites, start=start))


def _visual_only(replica: _Replica) -> _Judged:
    nothing = {"signature": (), "radiomics_mean": np.zeros(0), "radiomics_deviation": np.zeros(0)}
    return _federated(replace(replica, start=_fresh(replica.start.model_copy(update=nothing), replica.protocol)))


ADAMW: dict[str, Any] = {"strategy": "fedavg", "optimiser": "adamw", "learning_rate": 1e-4}
ARMS: dict[str, Arm] = {
    "federated": _federated,
    "pooled": _pooled,
    "alone": _alone,
    "one_shot": _one_shot,
    **{name: partial(_federated, strategy=name) for name in get_args(StrategyName)},
    "adamw": partial(_federated, **ADAMW),
    "adamw_pooled": partial(_pooled, **ADAMW),
    "radiomics_only": _radiomics_only,
    "t1ce_radiomics": partial(_radiomics_only, sequence="T1CE"),
    "flair_radiomics": partial(_radiomics_only, sequence="FLAIR"),
    "visual_only": _visual_only,
    "relu_none": partial(_with_head, relu="none"),
    "relu_paper_literal": partial(_with_head, relu="paper_literal"),
    "hidden_64": partial(_with_head, hidden=64),
    "channel_means": _channel_means,
    **{name: partial(_federated, encoding=name) for name in get_args(Encoding)},
}
