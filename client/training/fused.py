"""fused: train the fused classifier in plain torch: the reference that every faster way must equal.

Takes cases x length in memory and touches every weight in every step; serves all optimisers, and an encoder that
learns with the head (client/training/backbone.py).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from client.training.local_task import (
    LocalTask,
    LocalUpdate,
    batches,
    local_optimiser,
    mean_loss,
    signature_values,
    targets,
)
from client.training.standardised import StandardisedMaps
from common.networks.first_weights import ENCODER
from common.networks.fused_head import FusedHead
from common.tables import require_training

__all__ = ["train_plain"]


def train_plain(task: LocalTask, *, precision: torch.dtype = torch.float32) -> LocalUpdate:
    """One round at one site."""
    require_training(task.table)
    visual = StandardisedMaps.under(task.model, task.visual, device=task.device, precision=precision).whole()
    radiomics = signature_values(task.table, task.model, task.device, precision)
    target = targets(task.table, task.device)
    network = FusedHead(task.visual.length, len(task.model.signature), task.head)
    # The message's arrays are read-only and shared; torch gets its own copy.
    head = {k: v for k, v in task.model.weights.items() if not k.startswith(ENCODER)}
    network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in head.items()})
    network.to(task.device, precision)
    encoder = {} if task.backbone is None else task.backbone.offsets(task.model.weights, precision)
    parameters = {**dict(network.named_parameters()), **encoder}
    before = {name: value.detach().clone() for name, value in parameters.items()}
    drift = {k: torch.from_numpy(np.array(v)).to(task.device, precision) for k, v in task.drift.items()}
    optimiser = local_optimiser(list(network.parameters()), task, encoder=list(encoder.values()))
    with torch.no_grad():
        loss = float(mean_loss(network(visual, radiomics), target, task.class_weights))
    for batch in batches(task):
        optimiser.zero_grad(set_to_none=True)
        entering = visual[batch] if task.backbone is None else _through(task, encoder, batch, precision)
        mean_loss(network(entering, radiomics[batch]), target[batch], task.class_weights).backward()
        for name, value in parameters.items():
            if value.grad is not None and task.training.pull:
                value.grad.add_(value.detach() - before[name], alpha=task.training.pull)
            if value.grad is not None and name in drift:
                value.grad.add_(drift[name])
        optimiser.step()
    after = {name: value.detach() for name, value in parameters.items()}
    changes = {name: (after[name] - before[name]).float().cpu().numpy() for name in task.model.weights}
    return LocalUpdate(changes=changes, loss=loss, cases=len(task.table))


def _through(task: LocalTask, encoder: dict[str, Tensor], batch: Tensor, precision: torch.dtype) -> Tensor:
    """The batch's features by the encoder as it is now, standardised by the study's moments."""
    if task.backbone is None:
        raise ValueError("no encoder to go through")
    raw = task.backbone.features(encoder, batch)
    mean, deviation = (
        torch.from_numpy(np.array(array)).to(task.device, precision)
        for array in (task.model.visual_mean, task.model.visual_deviation)
    )
    return (raw - mean) / deviation / math.sqrt(raw.shape[1])
