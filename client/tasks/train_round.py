"""train_round: train the fused classifier on this site's training cases; the change leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from client.device import choose_device
from client.site import Site
from client.store.control_variates import ControlVariates
from client.tasks.load_cohort import load_cohort
from client.training.local_task import LocalTask
from client.training.train import train_locally
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.update_gate import check_changes
from common.messages.weight_update import pack, unpack
from common.seeds import stream

__all__ = ["answer"]


def answer(request: TrainRoundRequest, site: Site) -> TrainRoundReply:
    """One round; only SCAFFOLD leaves anything here between messages."""
    # One thread: the same bits on a laptop, on Ray and in a hospital, whatever the number of cores.
    torch.set_num_threads(1)
    protocol, name, before = site.protocol, site.settings.name, request.model.weights
    cases = load_cohort(site, request.model.harmoniser).training
    kept = ControlVariates(site.settings.cache, site=name, study=request.study, fingerprint=request.fingerprint)
    own = kept.before(request.round, before) if protocol.training.strategy == "scaffold" else {}
    task = LocalTask(
        cases.table,
        cases.visual,
        request.model,
        protocol.head,
        protocol.training,
        protocol.seed,
        name,
        request.round,
        choose_device(site.settings.device),
        request.class_weights,
        {key: request.control.get(key, np.float32(0)) - variate for key, variate in own.items()},
    )
    update = train_locally(task)
    rounding = stream(protocol.seed, name, "rounding", request.round)
    packed = pack(update.changes, protocol.training.wire_encoding, rounding)
    changes = unpack(packed, before)
    check_changes(changes, protocol.training)
    if own:
        kept.keep(request.round, _next_variate(own, changes, task, update.cases))
    return TrainRoundReply(
        site=name,
        round=request.round,
        cases=update.cases,
        loss=update.loss,
        validation_cases=update.validation_cases,
        validation_loss=update.validation_loss,
        update=packed,
    )


def _next_variate(
    own: dict[str, np.ndarray[Any, Any]], changes: dict[str, np.ndarray[Any, Any]], task: LocalTask, cases: int
) -> dict[str, np.ndarray[Any, Any]]:
    """The mean gradient along this round's path: own - server's - change / (steps x rate); option II of SCAFFOLD.

    The drift was server's - own; from the change as it was sent, so that the server can follow.
    """
    path = np.float32(1 / (task.training.steps(cases) * task.training.rate(task.round_number)))
    return {name: -task.drift[name] - path * changes[name] for name in own}
