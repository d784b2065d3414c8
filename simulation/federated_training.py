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
from client.tasks.train_round import SentUpdate, train_and_pack
from client.training.local_task import LocalTask, Privately
from client.training.personal import own_normalisation
from client.training.variate import drift_of, next_variate
from common.config.protocol import Protocol
from common.messages.broadcast import received_weights, sent_change
from common.messages.model import ModelState
from common.messages.weight_update import unpack
from common.privacy.noise import NoiseStream, repeatable_key
from common.stats.class_weights import balanced_weights
from server.strategy.site_level import private_mean
from server.strategy.strategies import STRATEGIES
from server.strategy.update import SiteUpdate, Weights
from server.strategy.weighting import site_weights

__all__ = ["FederatedRun", "federated_training"]

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class FederatedRun:
    """losses: pooled, of each round's incoming model, none under record-level privacy; bytes_up: of one site's update, per
    round.
    """

    model: ModelState
    losses: tuple[float, ...]
    bytes_up: tuple[int, ...]


@dataclass
class _Site:
    """What one site keeps between rounds."""

    cases: TrainingCases
    gram: np.ndarray[Any, Any] | None = None
    variate: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class _Setting:
    """What is the same in every round."""

    protocol: Protocol
    class_weights: tuple[float, float]
    device: str
    threads: int


def federated_training(
    cases: Mapping[str, TrainingCases], model: ModelState, protocol: Protocol, *, device: str = "cpu", threads: int = 1
) -> FederatedRun:
    """All rounds of the protocol's training over these sites, each of which answers in every round.

    Early stopping and sampling of sites are the study's (server/phases/train.py) and not played here.
    """
    torch.set_num_threads(1)  # as a hospital does: the same bits, whatever the number of cores
    training = protocol.training
    sites = {name: _Site(held) for name, held in sorted(cases.items())}
    setting = _Setting(protocol, _class_weights(cases) if training.class_weights else (1.0, 1.0), device, threads)
    everyone = {name: len(site.cases.table) for name, site in sites.items()}
    shares = site_weights(everyone, {}, training) if training.keeps_variate else dict.fromkeys(everyone, 0.0)
    total = sum(shares.values()) or 1.0
    memory: Weights = {}
    first = model.weights
    losses, sizes = [], []
    for number in range(1, training.rounds + 1):
        change = sent_change(model.weights, first, training, seed=protocol.seed, round_number=number)
        received = model if change is None else _with_weights(model, received_weights(change, first))
        sent = {name: _one_site(name, site, received, number, memory, setting) for name, site in sites.items()}
        fitted = {name: update.local.cases for name, update in sent.items()}
        variances = {name: update.local.gradient_variance or 0.0 for name, update in sent.items()}
        weights = site_weights(fitted, variances, training)
        updates = [
            SiteUpdate(name, fitted[name], unpack(u.packed, model.weights), weights[name], shares[name] / total)
            for name, u in sent.items()
        ]
        told = [(u.local.loss, u.local.cases) for u in sent.values() if u.local.loss is not None]
        if told:
            losses.append(sum(loss * n for loss, n in told) / sum(n for _, n in told))
        sizes.append(max(sum(part.nbytes for part in u.packed.parts.values()) for u in sent.values()))
        if protocol.privacy.site_level is not None:
            noise = NoiseStream(repeatable_key(protocol.seed, "server", number))
            updates = [private_mean(updates, protocol.privacy.site_level, noise)]
        after, memory = STRATEGIES[training.strategy](model.weights, updates, memory, training, number)
        model = _with_weights(model, after)
    return FederatedRun(model, tuple(losses), tuple(sizes))


def _with_weights(model: ModelState, weights: Weights) -> ModelState:
    """The same model with other weights."""
    return model.model_copy(update={"weights": dict(weights)})


def _one_site(
    name: str, site: _Site, received: ModelState, number: int, control: Weights, setting: _Setting
) -> SentUpdate:
    """Its update as the server gets it; what the site keeps is kept."""
    protocol = setting.protocol
    training = protocol.training
    drift: Arrays = {}
    if training.keeps_variate:
        own = site.variate or {key: np.zeros_like(weight) for key, weight in received.weights.items()}
        drift = drift_of(own, control if training.strategy == "scaffold" else {})
    if training.personal == "normalisation":
        received = own_normalisation(received, site.cases.table, site.cases.visual)
    task = LocalTask(
        site.cases.table,
        site.cases.visual,
        received,
        protocol.head,
        training,
        protocol.seed,
        name,
        number,
        setting.device,
        setting.class_weights,
        drift,
        threads=setting.threads,
    )
    asked = protocol.privacy.record_level
    if asked is not None:
        noise = NoiseStream(repeatable_key(protocol.seed, "train_round", name, number))
        task = replace(task, private=Privately(asked, asked.multiplier(training), noise))
    sent = train_and_pack(task if training.validation_fraction else replace(task, gram=site.gram))
    site.gram = sent.local.gram
    if drift:
        site.variate = next_variate(unpack(sent.packed, received.weights), task, sent.local.cases)
    return sent


def _class_weights(cases: Mapping[str, TrainingCases]) -> tuple[float, float]:
    altered = sum(int(held.table.altered.sum()) for held in cases.values())
    return balanced_weights(altered, sum(len(held.table) for held in cases.values()) - altered)
