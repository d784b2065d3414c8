"""segment_train: train the segmentation network on this site's cases alone, round by round, and go on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from client.disk import write_whole
from client.segment.weights import install_weights, require_name
from client.site import Site
from client.tasks.segment_cases import training_volumes
from client.tasks.segment_round import segment_task, use_cores
from client.training.patches import TrainingVolumes
from client.training.segment_round import train_segment_round
from common.errors import Refused
from common.messages.update_gate import check_changes
from common.networks.segmentation_network import first_weights

__all__ = ["TrainedWeights", "installed_weights", "train_alone"]

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class TrainedWeights:
    """file: in the site's folder of weights; resumed_after: rounds that an earlier, interrupted run had finished."""

    file: Path
    sha256: str
    cases: int
    losses: tuple[float, ...]
    resumed_after: int


def installed_weights(site: Site) -> Path:
    """The site's own folder of weights."""
    return site.settings.cache / "weights"


def train_alone(
    site: Site,
    name: str,
    *,
    afresh: bool = False,
    progress: Callable[[int, int, float], None] = lambda _round, _all, _loss: None,
) -> TrainedWeights:
    """All rounds of the protocol's segmentation.training; the weights so far are kept after every round.

    A run that was stopped goes on and ends with the same weights to the last bit.  Refused `another-training-here` when
    what was kept is of other cases or settings, unless `afresh`.
    """
    require_name(name)
    use_cores(site)
    cases, settings = training_volumes(site), site.protocol.segmentation
    kept = installed_weights(site) / f".{name}.training.safetensors"
    identity = _identity(site, cases)
    weights, losses = _resume(kept, identity, site) if kept.exists() and not afresh else ({}, [])
    weights = weights or first_weights(settings.network, seed=site.protocol.seed)
    resumed = len(losses)
    for number in range(resumed + 1, settings.training.rounds + 1):
        progress(number - 1, settings.training.rounds, losses[-1] if losses else float("nan"))
        update = train_segment_round(segment_task(site, cases, weights, number))
        check_changes(update.changes, settings.training.merging)
        weights = {key: weights[key] + update.changes[key] for key in weights}
        losses.append(update.loss)
        write_whole(kept, save(weights, {"identity": identity, "losses": json.dumps(losses)}))
    progress(settings.training.rounds, settings.training.rounds, losses[-1])
    card = {
        "what": "whole-tumour network trained at one site; research use only",
        "cases": len(cases.names),
        "rounds": settings.training.rounds,
        "voxel_mm": settings.working_mm,
    }
    folder = installed_weights(site)
    sha256 = install_weights(weights, settings.network, folder, name, card)
    kept.unlink(missing_ok=True)
    return TrainedWeights(folder / f"{name}.safetensors", sha256, len(cases.names), tuple(losses), resumed)


def _identity(site: Site, cases: TrainingVolumes) -> str:
    """Of what decides the result."""
    settings = site.protocol.segmentation
    digest = hashlib.sha256(f"{site.protocol.seed}:{site.settings.name}:{settings.working_mm}".encode())
    digest.update((settings.network.model_dump_json() + settings.training.model_dump_json()).encode())
    for name, volume in zip(cases.names, cases.volumes, strict=True):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(volume.images).data)
        digest.update(np.packbits(volume.mask).data)
    return digest.hexdigest()


def _resume(kept: Path, identity: str, site: Site) -> tuple[Arrays, list[float]]:
    try:
        with safe_open(str(kept), "numpy") as file:
            told = file.metadata()
            weights: Arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dictionary
    except SafetensorError:
        return {}, []  # nothing can be gone on with; it was never whole
    if told.get("identity") != identity:
        raise Refused(
            "another-training-here",
            site=site.settings.name,
            field="name",
            problem="An interrupted training of this name was of other cases or other settings.",
            fix="Choose another --name, or begin anew with --afresh.",
        )
    return weights, list(json.loads(told["losses"]))
