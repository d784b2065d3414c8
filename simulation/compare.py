"""compare: ways of training side by side, over several splits of one prepared cohort.

For each seed the cases are split and dealt anew (simulation/replica.py); every arm is judged on the same test cases.
Arms train without messages (simulation/federated_training.py: the same numbers as the study's).

    federated       as the protocol says             pooled          one computer with all cases
    alone           each hospital by itself          one_shot        mean score of the hospitals' own models
    fedavg ...      another strategy                 adamw, adamw_pooled   AdamW at 1e-4, averaged
    radiomics_only, visual_only                      t1ce_radiomics, flair_radiomics: one sequence, no visual map
    relu_none, relu_paper_literal                    hidden_64       64 hidden units
    channel_means   the map's channels averaged  random_projection   256 random mixtures of the map
    int8 ...        another encoding of the updates  equal, inverse_variance   weights of the sites
    own_normalisation, own_last_layer                the site's own part of the model, for its own test cases
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from client.features.visual import project
from client.site import open_site
from client.tasks.load_cohort import load_cohort
from client.training.personal import personalised
from client.training.score import safety_margins
from client.visual_maps import VisualMaps
from common.config.privacy import EXCHANGES, PrivacySettings, RecordLevelSettings, VotesSettings
from common.config.protocol import Protocol
from common.config.training import Encoding, StrategyName
from common.config.visual import VisualSettings
from common.errors import ConfigError
from common.messages.model import ModelState
from common.metrics.roc import auc
from common.networks.fused_head import initial_weights
from common.privacy.accounting import calibrate, calibrate_choice
from simulation.federated_training import federated_training
from simulation.journal import Journal
from simulation.partition import Partition
from simulation.private_statistics import rough_reference, with_private_statistics
from simulation.replica import Replica, deal, first_model, visual_moments

__all__ = ["ARMS", "ArmResult", "compare", "statistics_noise"]

Scores = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class ArmResult:
    """auc: of each seed; bytes_up: mean of one site's update per round, 0 where nothing travels."""

    name: str
    auc: tuple[float, ...]
    bytes_up: float = 0.0


@dataclass(frozen=True)
class _Judged:
    """Safety margins of the test cases, by the arm or by its parts."""

    margins: Mapping[str, Scores]
    bytes_up: float = 0.0


Arm = Callable[[Replica], _Judged]


def compare(
    site_file: Path,
    arms: Sequence[str],
    seeds: Sequence[int],
    *,
    protocol: Protocol | None = None,
    how: Partition = "scanner",
    sites: int = 3,
    progress: Callable[[int, str], None] = lambda _seed, _arm: None,
    journal: Journal | None = None,
) -> list[ArmResult]:
    """Test AUC of every arm and seed; an arm named twice counts once.

    site_file: of the single centre that holds the prepared cohort; protocol: its own unless given; journal: what is
    found in it is not computed again.
    """
    arms = list(dict.fromkeys(arms))
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
    chosen, everyone, journal = protocol or site.protocol, load_cohort(site), journal or Journal()
    setting = [
        version("fedmidline"),
        chosen.fingerprint(),
        how,
        sites,
        *sorted((*everyone.training.pseudonyms, *everyone.test.pseudonyms)),
    ]
    found: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    for seed in seeds:
        replica: Replica | None = None
        for name in arms:
            progress(seed, name)
            line = journal.find(name, seed, setting)
            if line is None:
                replica = replica or deal(site, everyone, chosen, seed, how, sites)
                judged = ARMS[name](replica)
                parts = {part: auc(margins, replica.test.table.altered) for part, margins in judged.margins.items()}
                line = journal.write(name, seed, setting, {"auc": parts, "bytes_up": judged.bytes_up})
            for part, value in line["auc"].items():
                label = f"{name}: {part}" if part else name
                found.setdefault(label, []).append(value)
                sizes.setdefault(label, []).append(line["bytes_up"])
    return [ArmResult(name, tuple(values), float(np.mean(sizes[name]))) for name, values in found.items()]


def _margins(model: ModelState, replica: Replica) -> Scores:
    return safety_margins(replica.test.table, replica.test.visual, model, head=replica.protocol.head, device="cpu")


def _with_training(replica: Replica, **training: Any) -> Replica:
    """The protocol with other training settings."""
    settings = type(replica.protocol.training).model_validate({**replica.protocol.training.model_dump(), **training})
    return replace(replica, protocol=replica.protocol.model_copy(update={"training": settings}))


def _federated(replica: Replica, **training: Any) -> _Judged:
    changed = _with_training(replica, **training)
    start = with_private_statistics(changed.start, changed.sites, changed.protocol)
    run = federated_training(changed.sites, start, changed.protocol)
    return _Judged({"": _margins(run.model, changed)}, float(np.mean(run.bytes_up)))


def _here(replica: Replica, **training: Any) -> Protocol:
    """For one computer: nothing travels, so nothing is rounded."""
    return _with_training(replica, **{"encoding": "float32", "broadcast": "float32", **training}).protocol


def _pooled(replica: Replica, **training: Any) -> _Judged:
    run = federated_training({"all": replica.training}, replica.start, _here(replica, **training))
    return _Judged({"": _margins(run.model, replica)})


def _alone(replica: Replica) -> _Judged:
    """Each hospital's statistics, selection and training are its own."""
    protocol = _here(replica)
    models = {
        name: federated_training({name: cases}, first_model([cases], protocol), protocol).model
        for name, cases in replica.sites.items()
    }
    return _Judged({name: _margins(model, replica) for name, model in models.items()})


def _personal(replica: Replica, **training: Any) -> _Judged:
    """Every test case is scored with the model as its own hospital has it."""
    changed = _with_training(replica, **training)
    protocol = changed.protocol
    run = federated_training(changed.sites, changed.start, protocol)
    margins = np.zeros(len(replica.test.table))
    for name, cases in changed.sites.items():
        own = personalised(run.model, cases.table, cases.visual, head=protocol.head, training=protocol.training)
        margins[replica.owners == name] = _margins(own, replica)[replica.owners == name]
    return _Judged({"": margins}, float(np.mean(run.bytes_up)))


def _one_shot(replica: Replica) -> _Judged:
    """Models travel once, after training; their scores are averaged by cases (Guha et al. 2019, arXiv 1902.11175)."""
    alone = _alone(replica).margins
    cases = np.array([len(replica.sites[name].table) for name in alone], dtype=float)
    scores = cases / cases.sum() @ np.stack([1 / (1 + np.exp(-margins)) for margins in alone.values()])
    return _Judged({"": np.log(scores) - np.log1p(-scores)})


def _with_head(replica: Replica, **head: Any) -> _Judged:
    settings = type(replica.protocol.head).model_validate({**replica.protocol.head.model_dump(), **head})
    protocol = replica.protocol.model_copy(update={"head": settings})
    return _federated(replace(replica, protocol=protocol, start=_fresh(replica.start, protocol)))


def _fresh(start: ModelState, protocol: Protocol) -> ModelState:
    """The same statistics with first weights of another shape."""
    weights = initial_weights(len(start.visual_mean), len(start.signature), protocol.head, seed=protocol.seed)
    return start.model_copy(update={"weights": weights})


def _with_maps(replica: Replica, change: Callable[[VisualMaps], VisualMaps]) -> Replica:
    training = replace(replica.training, visual=change(replica.training.visual))
    visual = visual_moments([training.visual])
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


def _with_channel_means(replica: Replica) -> Replica:
    channels = replica.protocol.visual.map_channels

    def average(maps: VisualMaps) -> VisualMaps:
        rows = [row.reshape(channels, -1).mean(axis=1, dtype=np.float64) for row in maps]
        return VisualMaps.of(np.array(rows, np.float32).reshape(len(maps), channels))

    return _with_maps(replica, average)


def _private(
    replica: Replica,
    *,
    target: float | None,
    small: Callable[[Replica], Replica],
    scale: bool = False,
    vote: bool = False,
) -> _Judged:
    """DP-SGD on a small head, for all rounds to spend at most `target`; None clips, and adds no noise; 0 does not train.

    scale: a third of the target is for the features' scale; vote: and another third for the signature's choice.
    """
    if target == 0:
        changed = small(replica)
        return _Judged({"": _margins(changed.start, changed)})
    noise = {"noise_multiplier": 0.0} if target is None else {"target_epsilon": target}
    changed, statistics = small(_with_training(replica, **PRIVATE_TRAINING)), None
    if scale and (target is not None or vote):
        names = changed.training.table.names if vote else changed.start.signature
        statistics = rough_reference(changed.training, names, **statistics_noise(target, vote=vote))
    asked = RecordLevelSettings.model_validate({**PRIVATE, **noise, "statistics": statistics})
    protocol = changed.protocol.model_copy(update={"privacy": PrivacySettings(record_level=asked)})
    start = with_private_statistics(changed.start, changed.sites, protocol)
    run = federated_training(changed.sites, start, protocol)
    return _Judged({"": _margins(run.model, changed)}, float(np.mean(run.bytes_up)))


def statistics_noise(target: float | None, *, vote: bool) -> dict[str, Any]:
    """Settings of private statistics of which a third of `target` pays for the scale, and another third for votes; None:
    hardly any noise.
    """
    if target is None:
        return {"noise_multiplier": 0.01, "votes": VotesSettings(epsilon=100) if vote else None}
    found: dict[str, Any] = {"noise_multiplier": calibrate(target / 3, PRIVATE["delta"], 1.0, EXCHANGES)}
    if vote:
        picks = VotesSettings().picks
        found["votes"] = VotesSettings(picks=picks, epsilon=calibrate_choice(target / 3, PRIVATE["delta"], picks))
    return found


def _with_fixed_signature(replica: Replica) -> Replica:
    """Channel means, and the nineteen features that were chosen before anybody saw these cases."""
    selection = replica.protocol.selection.model_copy(update={"method": "fixed_signature"})
    changed = _with_channel_means(
        replace(replica, protocol=replica.protocol.model_copy(update={"selection": selection}))
    )
    return replace(changed, start=first_model([changed.training], changed.protocol))


def _projected(maps: VisualMaps) -> VisualMaps:
    rows = [project(np.asarray(row, np.float32), VisualSettings().projection_seed) for row in maps]
    return VisualMaps.of(np.array(rows, np.float32))


def _with_no_map(replica: Replica) -> Replica:
    return _with_maps(replica, _nothing)


def _radiomics_only(replica: Replica, sequence: str = "") -> _Judged:
    """No visual map; only features of one sequence where one is named (the others are made constant)."""
    bare = _with_no_map(replica)
    if not sequence:
        return _federated(bare)
    kept = np.array([name.startswith(f"{sequence}_") for name in replica.training.table.names])

    def blank(cases: Any) -> Any:
        return replace(cases, table=cases.table.with_values(np.where(kept, cases.table.values, 0.0)))

    sites = {name: blank(cases) for name, cases in bare.sites.items()}
    training = blank(bare.training)
    start = first_model([training], bare.protocol)
    return _federated(replace(bare, training=training, test=blank(bare.test), sites=sites, start=start))


def _visual_only(replica: Replica) -> _Judged:
    nothing = {"signature": (), "radiomics_mean": np.zeros(0), "radiomics_deviation": np.zeros(0)}
    return _federated(replace(replica, start=_fresh(replica.start.model_copy(update=nothing), replica.protocol)))


EPSILONS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
PRIVATE: dict[str, Any] = {"max_grad_norm": 1.0, "sampling_rate": 0.25, "delta": 1e-4}
PRIVATE_TRAINING: dict[str, Any] = {"local_epochs": 1}
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
    "channel_means": lambda replica: _federated(_with_channel_means(replica)),
    "random_projection": lambda replica: _federated(_with_maps(replica, _projected)),
    "own_normalisation": partial(_personal, personal="normalisation"),
    "own_last_layer": partial(_personal, personal="last_layer"),
    **{name: partial(_federated, weighting=name) for name in ("equal", "inverse_variance")},
    **{name: partial(_federated, encoding=name) for name in get_args(Encoding)},
    "fixed_signature": lambda replica: _federated(_with_fixed_signature(replica)),
    **{
        f"private{kind}_{word}": partial(
            _private, target=target, small=small, scale=kind in {"_scale", "_votes"}, vote=kind == "_votes"
        )
        for kind, small in (
            ("", _with_channel_means),
            ("_radiomics", _with_no_map),
            ("_scale", _with_fixed_signature),
            ("_votes", _with_channel_means),
        )
        for word, target in [("inf", None), ("0", 0.0), *((f"{epsilon:g}", epsilon) for epsilon in EPSILONS)]
    },
}
