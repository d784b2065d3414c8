"""train_round: train the fused classifier on this site's training cases; the change leaves."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from client.device import choose_device
from client.egress.budget import Spending
from client.site import Site
from client.store.cohort import TrainingCases
from client.store.control_variates import ControlVariates
from client.store.gram_store import GramStore
from client.store.moments_store import MomentsStore
from client.store.run_ledger import RunLedger
from client.tasks.learning_encoder import backbone_of
from client.tasks.load_cohort import load_cohort
from client.tasks.open_budget import answered_privately
from client.training.local_task import LocalTask, LocalUpdate, Privately
from client.training.personal import own_normalisation
from client.training.train import train_locally
from client.training.variate import drift_of, next_variate
from common.config.privacy import RecordLevelSettings
from common.config.protocol import Protocol
from common.messages.broadcast import received_weights
from common.messages.model import ModelState
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.update_gate import check_changes
from common.messages.weight_update import WeightUpdate, pack, unpack
from common.networks.first_weights import first_weights
from common.privacy.noise import NoiseStream
from common.seeds import stream

__all__ = ["SentUpdate", "answer", "train_and_pack"]

MOST_THREADS = 8
"""Beyond it a core waits for memory."""


@dataclass(frozen=True)
class SentUpdate:
    """packed: as it travels."""

    local: LocalUpdate
    packed: WeightUpdate


def answer(request: TrainRoundRequest, site: Site) -> TrainRoundReply:
    """One round; what stays here between messages: the cases' Gram matrix, the server's moments, the site's variate."""
    # One thread of torch's own: the same bits on a laptop, on Ray and in a hospital, whatever the number of cores.
    torch.set_num_threads(1)
    protocol, name, model = site.protocol, site.settings.name, _with_weights(request, site.protocol)
    model = MomentsStore(site.settings.cache, site=name).complete(model, request.moments)
    training = protocol.training
    cases = load_cohort(site, model.harmoniser).training
    backbone = backbone_of(cases, site) if training.encoder_rate else None
    if backbone is not None:
        cases = replace(cases, visual=backbone.maps(model.weights))
    RunLedger(site.settings.cache).note(
        name,
        request.study,
        request.fingerprint,
        "training",
        dict(zip(cases.pseudonyms, cases.keys, strict=True)),
        when=datetime.now(UTC),
    )
    kept = ControlVariates(site.settings.cache, site=name, study=request.study, fingerprint=request.fingerprint)
    own = kept.before(request.round, model.weights) if training.keeps_variate else {}
    if training.personal == "normalisation":
        model = own_normalisation(model, cases.table, cases.visual)
    task = LocalTask(
        cases.table,
        cases.visual,
        model,
        protocol.head,
        training,
        protocol.seed,
        name,
        request.round,
        choose_device(site.settings.device),
        request.class_weights,
        drift_of(own, request.control),
        threads=min(site.settings.workers or os.cpu_count() or 1, MOST_THREADS),
        backbone=backbone,
    )
    if protocol.privacy.record_level is not None:
        return _privately(protocol.privacy.record_level, task, request, cases, site)
    sent = _with_known_products(task, cases.keys, GramStore(site.settings.cache))
    if own:
        changes = unpack(sent.packed, model.weights)
        kept.keep(request.round, next_variate(changes, task, sent.local.cases))
    return _reply(sent, task)


def _privately(
    asked: RecordLevelSettings, task: LocalTask, request: TrainRoundRequest, cases: TrainingCases, site: Site
) -> TrainRoundReply:
    """The round under record-level privacy."""
    event = asked.event(task.training)
    spending = Spending(request.action, request.study, request.fingerprint, request.round, _asked(task, cases), event)

    def trained(noise: NoiseStream) -> TrainRoundReply:
        private = Privately(asked, event.noise_multiplier, noise)
        return _reply(train_and_pack(replace(task, private=private)), task)

    return answered_privately(site, spending, task.model.harmoniser, asked, trained, cases=len(task.table))


def _asked(task: LocalTask, cases: TrainingCases) -> str:
    """SHA-256 over all that a private update depends on but the noise: model, cases with their labels, and the way."""
    model, found = task.model, hashlib.sha256()
    parts: dict[str, Any] = {
        **model.weights,
        "radiomics_mean": model.radiomics_mean,
        "radiomics_deviation": model.radiomics_deviation,
        "visual_mean": model.visual_mean,
        "visual_deviation": model.visual_deviation,
        "altered": task.table.altered,
    }
    for text in (*cases.keys, *model.signature, *sorted(parts)):
        found.update(f"{text}\n".encode())
    for name in sorted(parts):
        found.update(np.ascontiguousarray(parts[name]).tobytes())
    return found.hexdigest()


def _reply(sent: SentUpdate, task: LocalTask) -> TrainRoundReply:
    return TrainRoundReply(
        site=task.site,
        round=task.round_number,
        cases=sent.local.cases,
        loss=sent.local.loss,
        validation_cases=sent.local.validation_cases,
        validation_loss=sent.local.validation_loss,
        gradient_variance=sent.local.gradient_variance,
        update=sent.packed,
    )


def _with_weights(request: TrainRoundRequest, protocol: Protocol) -> ModelState:
    """The model that the round starts from."""
    if request.change is None:
        return request.model
    signature = request.model.signature
    first = first_weights(protocol, len(signature))
    return request.model.model_copy(update={"weights": received_weights(request.change, first)})


def train_and_pack(task: LocalTask) -> SentUpdate:
    """Train, check, encode."""
    update = train_locally(task)
    check_changes(update.changes, task.training)
    rounding = stream(task.seed, task.site, "rounding", task.round_number)
    return SentUpdate(update, pack(update.changes, task.training.wire_encoding, rounding))


def _with_known_products(task: LocalTask, keys: tuple[str, ...], store: GramStore) -> SentUpdate:
    """The Gram matrix of the first round serves the later ones; a part held out would be another matrix."""
    if not task.training.linear or task.training.validation_fraction:
        return train_and_pack(task)
    key = store.key(keys, task.model.visual_mean, task.model.visual_deviation)
    known = store.load(key)
    sent = train_and_pack(replace(task, gram=known))
    if known is None and sent.local.gram is not None:
        store.save(key, sent.local.gram)
    return sent
