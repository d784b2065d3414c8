"""fused: train and apply the fused classifier on one site's cases.

Plain torch: the reference that every faster way must equal.  Local optimisers start afresh each round,
so that a site keeps nothing between messages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.config.modelling import HeadSettings, TrainingSettings
from common.messages.model import ModelState
from common.networks.fused_head import CLASSES, FusedHead
from common.seeds import stream
from common.tables import FeatureTable, TrainingTable, require_training

__all__ = ["LocalUpdate", "safety_margins", "train_locally"]

ALTERED, NOT_ALTERED = CLASSES.index("altered"), CLASSES.index("not_altered")
Weights = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class LocalUpdate:
    """deltas: new minus incoming weights, float32; loss: of the incoming model; cases: trained on."""

    deltas: Weights
    loss: float
    cases: int


def train_locally(
    table: TrainingTable,
    visual: np.ndarray[Any, Any],
    model: ModelState,
    *,
    head: HeadSettings,
    training: TrainingSettings,
    seed: int,
    site: str,
    round_number: int,
    device: str,
) -> LocalUpdate:
    """One round at one site.

    table: training cases with (at least) the signature's features; visual: (cases, length), raw.
    `fedsgd` takes one full-batch gradient step; `fedavg` takes `local_epochs` passes in batches drawn
    from the stream (seed, site, "batches", round).
    """
    require_training(table)
    inputs = _inputs(table, visual, model, device)
    target = torch.from_numpy(np.where(table.altered, ALTERED, NOT_ALTERED)).to(device)
    network = _build(model, head, device)
    with torch.no_grad():
        loss = float(nn.functional.cross_entropy(network(*inputs), target))
    if training.strategy == "fedsgd":
        optimiser: torch.optim.Optimizer = torch.optim.SGD(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        _step(network, optimiser, inputs, target)
    else:
        optimiser = _optimiser(network, training)
        rng = stream(seed, site, "batches", round_number)
        size = training.batch_size or len(table)
        for _ in range(training.local_epochs):
            order = torch.from_numpy(rng.permutation(len(table))).to(device)
            for batch in order.split(size):
                _step(network, optimiser, (inputs[0][batch], inputs[1][batch]), target[batch])
    after = {name: value.detach().cpu().numpy() for name, value in network.named_parameters()}
    deltas = {name: after[name] - model.weights[name] for name in model.weights}
    return LocalUpdate(deltas=deltas, loss=loss, cases=len(table))


def safety_margins(
    table: FeatureTable,
    visual: np.ndarray[Any, Any],
    model: ModelState,
    *,
    head: HeadSettings,
    device: str,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Logit of the safety score of each case: logit(not altered) - logit(altered), float64.

    Low means altered.  The margin, not the score, is compared and ranked: scores near 0 and 1 collapse
    into ties in single precision.
    """
    if len(table) == 0:
        return np.zeros(0)
    network = _build(model, head, device)
    with torch.no_grad():
        logits = network(*_inputs(table, visual, model, device)).double().cpu().numpy()
    margins: np.ndarray[Any, np.dtype[np.float64]] = logits[:, NOT_ALTERED] - logits[:, ALTERED]
    return margins


def _inputs(table: FeatureTable, visual: np.ndarray[Any, Any], model: ModelState, device: str) -> tuple[Tensor, Tensor]:
    """Standardised visual features over the square root of their number, and the signature."""
    selected = table.columns(model.signature).values
    radiomics = (selected - model.radiomics_mean) / model.radiomics_deviation
    scale = np.float32(1 / math.sqrt(visual.shape[1]))
    scaled = (visual.astype(np.float32) - model.visual_mean) / model.visual_deviation * scale
    return (
        torch.from_numpy(scaled).to(device),
        torch.from_numpy(radiomics.astype(np.float32)).to(device),
    )


def _build(model: ModelState, head: HeadSettings, device: str) -> FusedHead:
    visual = model.weights["visual.weight"].shape[1]
    network = FusedHead(visual, len(model.signature), head)
    # The message's arrays are read-only and shared; torch gets its own copy.
    network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in model.weights.items()})
    return network.to(device)


def _optimiser(network: FusedHead, training: TrainingSettings) -> torch.optim.Optimizer:
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.SGD(network.parameters(), lr=rate, weight_decay=decay)


def _step(network: FusedHead, optimiser: torch.optim.Optimizer, inputs: tuple[Tensor, Tensor], target: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(network(*inputs), target).backward()
    optimiser.step()
