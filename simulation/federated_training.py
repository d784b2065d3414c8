"""federated_training: the rounds of a study without messages: the sites' own training, the server's own merging.

For experiments over many seeds and settings: no wire, no disk, the same numbers as the study itself to the last bit
(tests/e2e/test_federated_training.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from client.store.cohort import TrainingCases
from client.tasks.train_round import next_variate, train_and_pack
from client.training.local_task import LocalTask
from common.config.protocol import Protocol
from common.messages.broadcast import received_weights, sent_change
from common.messages.model import ModelState
from common.messages.weight_update import unpack
from common.stats.class_weights import balanced_weights
from server.strategy.strategies import STRATEGIES
from server.strategy.update import SiteUpdate, Weights

__all__ = ["FederatedRun", "federated_training"]

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class FederatedRun:
    """losses: pooled, of each round's incoming model; bytes_up: of one site's update, per round."""

    model: ModelState
    losses: tuple[float, ...]
    bytes_up: tuple[int, ...]


@dataclass
class _Site:
    """What one site keeps between rounds."""

    cases: TrainingCases
    gram: np.ndarray[Any, Any] | None = None
    variate: Arrays = field(default_factory=dict)


def federated_training(
    cases: Mapping[str, TrainingCases], model: ModelState, protocol: Protocol, *, device: str = "cpu", threads: int = 1
) -> FederatedRun:
    """All rounds of the protocol's training over these sites, each of which answers in every round.

    Early stopping and sampling of sites are the study's (server/phases/train.py) and not played here.
    """
    torch.set_num_threads(1)  # as a hospital does: the same bits, whatever the number of cores
    training = protocol.training
    sites = {name: _Site(held) for name, held in sorted(cases.items())}
    memory: Weights = {}
    first = model.weights
    losses, sizes = [], []
    for number in range(1, training.rounds + 1):
        updates = []
        loss = 0.0
        change = sent_change(model.weights, first, training, seed=protocol.seed, round_number=number)
        received = model if change is None else _with_weights(model, received_weights(change, first))
        for name, site in sites.items():
            update, size, local = _one_site(
                name, site, received, model, protocol, number, memory, cases, device, threads
            )
            updates.append(update)
            sizes.append(size)
            loss += local * update.cases
        losses.append(loss / sum(u.cases for u in updates))
        after, memory = STRATEGIES[training.strategy](model.weights, updates, memory, training, number)
        model = _with_weights(model, after)
    per_round = [max(sizes[i : i + len(sites)]) for i in range(0, len(sizes), len(sites))]
    return FederatedRun(model, tuple(losses), tuple(per_round))


def _with_weights(model: ModelState, weights: Weights) -> ModelState:
    """The same model with other weights."""
    return model.model_copy(update={"weights": dict(weights)})


def _one_site(
    name: str,
    site: _Site,
    received: ModelState,
    model: ModelState,
    protocol: Protocol,
    number: int,
    control: Weights,
    everyone: Mapping[str, TrainingCases],
    device: str,
    threads: int,
) -> tuple[SiteUpdate, int, float]:
    """Its update as the server gets it, its size in bytes, its loss."""
    training = protocol.training
    drift: Arrays = {}
    if training.strategy == "scaffold":
        drift = {
            key: control.get(key, np.float32(0)) - site.variate.get(key, np.zeros_like(weight))
            for key, weight in model.weights.items()
        }
    task = LocalTask(
        site.cases.table,
        site.cases.visual,
        received,
        protocol.head,
        training,
        protocol.seed,
        name,
        number,
        device,
        _class_weights(everyone) if training.class_weights else (1.0, 1.0),
        drift,
        threads=threads,
    )
    sent = train_and_pack(task if training.validation_fraction else replace(task, gram=site.gram))
    site.gram = sent.local.gram
    changes = unpack(sent.packed, model.weights)
    own_changes = unpack(sent.packed, received.weights) if drift else {}
    if drift:
        site.variate = next_variate(own_changes, task, sent.local.cases)
    total = sum(len(held.table) for held in everyone.values())
    equal = training.weighting == "equal"
    update = SiteUpdate(
        name,
        sent.local.cases,
        changes,
        1.0 if equal else float(sent.local.cases),
        1 / len(everyone) if equal else len(site.cases.table) / total,
    )
    return update, sum(part.nbytes for part in sent.packed.parts.values()), sent.local.loss


def _class_weights(cases: Mapping[str, TrainingCases]) -> tuple[float, float]:
    altered = sum(int(held.table.altered.sum()) for held in cases.values())
    return balanced_weights(altered, sum(len(held.table) for held in cases.values()) - altered)
