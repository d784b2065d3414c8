"""segment_round: one round of the segmentation network's training on one site's cases.

A site alone and pooled data train by the same rounds, one after the other, so a federation of one site is the
centralised run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from client.training.patches import TrainingVolumes, draw_patch
from common.config.segmentation import NetworkSettings, SegmenterTraining
from common.networks.segmentation_network import SegmentationNetwork, as_arrays
from common.seeds import stream

__all__ = ["SegmentTask", "SegmentUpdate", "train_segment_round"]

Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class SegmentTask:
    """One round at one site; round_number counts from 1 and, with seed and site, names the random streams."""

    cases: TrainingVolumes
    weights: Arrays
    network: NetworkSettings
    training: SegmenterTraining
    seed: int
    site: str
    round_number: int
    device: str = "cpu"


@dataclass(frozen=True)
class SegmentUpdate:
    """changes: new weights minus incoming weights, float32; loss: mean of the round's cubes, as they were trained on."""

    changes: dict[str, np.ndarray[Any, Any]]
    cases: int
    loss: float


def train_segment_round(
    task: SegmentTask, *, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> SegmentUpdate:
    """Train; progress(steps done, steps in all).

    The loss of a cube is its own (Dice and cross-entropy; instance normalisation couples no two cubes), hence with
    `fedsgd` the mean of the sites' gradients, weighted by their cases, is the gradient of the pooled cases.
    """
    network = SegmentationNetwork(task.network).to(task.device)
    start = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in task.weights.items()}
    network.core.load_state_dict(start)
    network.train()
    exact = task.training.strategy == "fedsgd"
    losses = _one_step(task, network, progress) if exact else _epochs(task, network, progress)
    after = as_arrays(network.core.state_dict())
    changes = {name: value - task.weights[name] for name, value in after.items()}
    return SegmentUpdate(changes, len(task.cases.names), float(np.mean(losses)))


def _one_step(task: SegmentTask, network: nn.Module, progress: Callable[[int, int], None]) -> list[float]:
    """One gradient step over one cube of every case, a cube at a time: memory does not grow with the cases."""
    cases, training = len(task.cases.names), task.training
    losses = []
    for index in range(cases):
        loss = _loss(network, *_batch(task, [index], 0))
        (loss / cases).backward()
        losses.append(loss.item())
        progress(index + 1, cases)
    torch.optim.SGD(
        network.parameters(), lr=training.rate(task.round_number), weight_decay=training.weight_decay
    ).step()
    return losses


def _epochs(task: SegmentTask, network: nn.Module, progress: Callable[[int, int], None]) -> list[float]:
    training, cases = task.training, len(task.cases.names)
    optimiser = _optimiser(network, training, training.rate(task.round_number))
    batches = range(0, cases, training.batch_size)
    losses = []
    for epoch in range(training.local_epochs):
        order = stream(task.seed, "segmenter", "order", task.site, task.round_number, epoch).permutation(cases)
        for begin in batches:
            optimiser.zero_grad(set_to_none=True)
            loss = _loss(network, *_batch(task, order[begin : begin + training.batch_size].tolist(), epoch))
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            progress(len(losses), training.local_epochs * len(batches))
    return losses


def _optimiser(network: nn.Module, training: SegmenterTraining, rate: float) -> torch.optim.Optimizer:
    if training.optimiser == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        network.parameters(),
        lr=rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.momentum > 0,
    )


def _batch(task: SegmentTask, indices: list[int], epoch: int) -> tuple[Tensor, Tensor]:
    """One cube of each case, from the case's own stream."""
    cubes = [
        draw_patch(
            task.cases.volumes[i],
            task.training.patch_voxels,
            stream(task.seed, "segmenter", "cube", task.cases.names[i], task.round_number, epoch),
        )
        for i in indices
    ]
    images, masks = (torch.from_numpy(np.stack(parts)).to(task.device) for parts in zip(*cubes, strict=True))
    return images, masks


def _loss(network: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    loss: Tensor = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)(network(images), masks)
    return loss
