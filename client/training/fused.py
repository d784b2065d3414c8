"""fused: train the fused classifier in plain torch: the reference that every faster way must equal.

Takes cases x length in memory and touches every weight in every step; serves all optimisers.
"""

from __future__ import annotations

import numpy as np
import torch

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
    network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in task.model.weights.items()})
    network.to(task.device, precision)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    drift = {k: torch.from_numpy(np.array(v)).to(task.device, precision) for k, v in task.drift.items()}
    optimiser = local_optimiser(list(network.parameters()), task)
    with torch.no_grad():
        loss = float(mean_loss(network(visual, radiomics), target, task.class_weights))
    for batch in batches(task):
        optimiser.zero_grad(set_to_none=True)
        mean_loss(network(visual[batch], radiomics[batch]), target[batch], task.class_weights).backward()
        for name, value in network.named_parameters():
            if value.grad is not None and task.training.pull:
                value.grad.add_(value.detach() - before[name], alpha=task.training.pull)
            if value.grad is not None and name in drift:
                value.grad.add_(drift[name])
        optimiser.step()
    after = {name: value.detach() for name, value in network.named_parameters()}
    changes = {name: (after[name] - before[name]).float().cpu().numpy() for name in task.model.weights}
    return LocalUpdate(changes=changes, loss=loss, cases=len(task.table))
