"""local_task: one round's work at one site: what goes in, what comes out, and what every engine does alike.

Local optimisers start afresh each round, so that a site keeps nothing between messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from client.training.backbone import Backbone
from client.visual_maps import VisualMaps
from common.config.modelling import HeadSettings
from common.config.privacy import RecordLevelSettings
from common.config.training import TrainingSettings
from common.messages.model import ModelState
from common.messages.weight_update import Change
from common.networks.fused_head import CLASSES
from common.privacy.noise import NoiseStream
from common.seeds import stream
from common.tables import FeatureTable, TrainingTable

__all__ = [
    "LocalTask",
    "LocalUpdate",
    "Privately",
    "batches",
    "local_optimiser",
    "mean_loss",
    "signature_values",
    "targets",
]

Weights = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Privately:
    """noise_multiplier: as the settings name it or as it follows from their target; noise: of this round, used up."""

    settings: RecordLevelSettings
    noise_multiplier: float
    noise: NoiseStream


@dataclass(frozen=True)
class LocalTask:
    """table: training cases with (at least) the signature's features; visual: their maps, raw.

    class_weights: in the order of CLASSES.  drift: added to every gradient (client/training/variate.py), by name;
    empty for none.
    gram: X X' of these cases where it is known from an earlier round.  threads: change no bit.
    backbone: where the encoder learns; `visual` then holds the features under the incoming encoder.
    private: what bounds and hides each case's part; None without differential privacy.
    """

    table: TrainingTable
    visual: VisualMaps
    model: ModelState
    head: HeadSettings
    training: TrainingSettings
    seed: int
    site: str
    round_number: int
    device: str = "cpu"
    class_weights: tuple[float, float] = (1.0, 1.0)
    drift: Weights = field(default_factory=dict)
    gram: np.ndarray[Any, Any] | None = None
    threads: int = 1
    backbone: Backbone | None = None
    private: Privately | None = None


@dataclass(frozen=True)
class LocalUpdate:
    """changes: new minus incoming weights; loss: of the incoming model, None where it would tell of single cases;
    cases: trained on.

    validation_loss: of the incoming model on the cases held out; None without any.
    gradient_variance: of one case's gradient, where sites are weighed by it.
    gram: X X' of the cases, to be kept at the site; None from plain torch.
    """

    changes: Mapping[str, Change]
    loss: float | None
    cases: int
    validation_loss: float | None = None
    validation_cases: int = 0
    gradient_variance: float | None = None
    gram: np.ndarray[Any, Any] | None = None


def batches(task: LocalTask) -> Iterator[Tensor]:
    """Case numbers of every step: `local_epochs` passes in the order of the stream (seed, site, "batches", round);
    all cases, once, in the exact mode.
    """
    cases, training = len(task.table), task.training
    if training.strategy == "fedsgd":
        yield torch.arange(cases, device=task.device)
        return
    rng = stream(task.seed, task.site, "batches", task.round_number)
    for _ in range(training.local_epochs):
        yield from torch.from_numpy(rng.permutation(cases)).to(task.device).split(training.batch_size or cases)


def local_optimiser(
    parameters: list[Tensor], task: LocalTask, *, encoder: Sequence[Tensor] = ()
) -> torch.optim.Optimizer:
    """As the protocol says, the encoder at its own rate; the exact mode always takes a plain gradient step."""
    training, rate = task.training, task.training.rate(task.round_number)
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if encoder:
        groups.append({"params": list(encoder), "lr": rate * training.encoder_rate})
    if training.optimiser == "adamw" and training.strategy != "fedsgd":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=training.weight_decay)
    return torch.optim.SGD(groups, lr=rate, momentum=training.momentum, weight_decay=training.weight_decay)


def mean_loss(logits: Tensor, target: Tensor, class_weights: tuple[float, float]) -> Tensor:
    """Cross-entropy, each case weighed by its class, over the number of cases.

    Not over the sum of weights, as torch would: only so do sites' gradients add up to the pooled one.
    """
    each = nn.functional.cross_entropy(logits, target, reduction="none")
    return (each * logits.new_tensor(class_weights)[target]).mean()


def targets(table: FeatureTable, device: str) -> Tensor:
    """Places in CLASSES."""
    altered, not_altered = CLASSES.index("altered"), CLASSES.index("not_altered")
    return torch.from_numpy(np.where(table.altered, altered, not_altered)).to(device)


def signature_values(table: FeatureTable, model: ModelState, device: str, precision: torch.dtype) -> Tensor:
    """The signature's features, standardised: cases x features."""
    values = (table.columns(model.signature).values - model.radiomics_mean) / model.radiomics_deviation
    return torch.from_numpy(values).to(device, precision)
