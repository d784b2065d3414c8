"""gram: train the fused classifier on the cases' Gram matrix: the same steps as plain torch, without the million.

The U-Net is frozen, so every gradient of the big layer lies in the span of the standardised features X of the
local cases.  Its weights stay

    W = c W0 + A' X + t V        c, t: numbers; A: cases x hidden; V: SCAFFOLD's drift

under SGD, momentum, weight decay, a proximal pull to W0 and a drift, each of which is linear in W; the same rule
moves (c, A, t).  A step needs X W0', X V' and K = X X' only, all of which come from one pass over the
features; a second pass writes the change.  Exact up to rounding: within 1e-5 of plain torch (tests/laws/test_gram.py).

Not for Adam and others that treat each weight by itself.
Source: the representer form of kernel methods (Schölkopf et al. 2001), here for every step of the path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from client.training.local_task import (
    LocalTask,
    LocalUpdate,
    batches,
    mean_loss,
    signature_values,
    targets,
)
from client.training.low_rank import leading_directions
from client.training.standardised import StandardisedMaps
from common.messages.weight_update import SMALL, Change, LowRank
from common.networks.fused_head import fused_logits
from common.tables import require_training

__all__ = ["BIG", "train_gram"]

BIG = "visual.weight"


@dataclass(frozen=True)
class _Coordinates:
    """W = kept * W0 + mix' X + drifted * V."""

    kept: Tensor
    mix: Tensor
    drifted: Tensor

    def tensors(self) -> list[Tensor]:
        return [self.kept, self.mix, self.drifted]

    def set_gradient(self, batch: Tensor, of_hidden: Tensor, *, pull: float, drift: bool) -> None:
        """From the loss's gradient by the batch's hidden units; the pull is towards (1, 0, 0)."""
        gradient = torch.zeros_like(self.mix)
        gradient[batch] = of_hidden
        self.mix.grad = gradient.add_(self.mix, alpha=pull)
        self.kept.grad = pull * (self.kept - 1)
        self.drifted.grad = pull * self.drifted + float(drift)


class _Descent:
    """SGD with momentum and weight decay, step for step as torch.optim.SGD, which imports a compiler to do it:
    two seconds and 70 MB for each of a hospital's processes.
    """

    def __init__(self, values: list[Tensor], task: LocalTask) -> None:
        self._values = values
        self._rate, self._training = task.training.rate(task.round_number), task.training
        self._velocity: list[Tensor] = []

    @torch.no_grad()
    def step(self) -> None:
        """Move every value by its gradient."""
        decay, momentum = self._training.weight_decay, self._training.momentum
        steps = [value.grad.add(value, alpha=decay) for value in self._values if value.grad is not None]
        if momentum and self._velocity:
            steps = [v.mul_(momentum).add_(step) for v, step in zip(self._velocity, steps, strict=True)]
        self._velocity = steps
        for value, step in zip(self._values, steps, strict=True):
            value.add_(step, alpha=-self._rate)


class _Tail:
    """What follows the hidden units, in double precision: the small weights, and the loss through them."""

    def __init__(self, task: LocalTask) -> None:
        self._task = task
        self._radiomics = signature_values(task.table, task.model, task.device, torch.float64)
        self._target = targets(task.table, task.device)
        self.start = {n: self._tensor(w) for n, w in task.model.weights.items() if n != BIG}
        self.small = {name: value.clone().requires_grad_() for name, value in self.start.items()}
        self._drift = {n: self._tensor(v) for n, v in task.drift.items() if n != BIG}

    def loss(self, hidden: Tensor, batch: Tensor) -> Tensor:
        """Of these cases; hidden: their units before the bias."""
        bias, weight, fusion_bias = (self.small[n] for n in ("visual.bias", "fusion.weight", "fusion.bias"))
        logits = fused_logits(hidden + bias, self._radiomics[batch], weight, fusion_bias, self._task.head.relu)
        return mean_loss(logits, self._target[batch], self._task.class_weights)

    def backward(self, hidden: Tensor, batch: Tensor) -> Tensor:
        """Set the small weights' gradients; returns that of `hidden`, which is a leaf."""
        of_hidden, *of_small = torch.autograd.grad(self.loss(hidden, batch), [hidden, *self.small.values()])
        for (name, value), gradient in zip(self.small.items(), of_small, strict=True):
            value.grad = gradient + self._task.training.pull * (value.detach() - self.start[name])
            if name in self._drift:
                value.grad += self._drift[name]
        return of_hidden

    def changes(self) -> dict[str, Change]:
        """New minus incoming, float32."""
        return {n: (value.detach() - self.start[n]).float().cpu().numpy() for n, value in self.small.items()}

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=torch.float64, device=self._task.device)


def train_gram(
    task: LocalTask, *, rank_tolerance: float | None = None, precision: torch.dtype = torch.float32
) -> LocalUpdate:
    """One round at one site.

    rank_tolerance: give the big layer's change as LowRank with this error; None for a plain array.
    precision: of the products with X; everything else is float64.
    """
    require_training(task.table)
    maps = StandardisedMaps.under(
        task.model, task.visual, device=task.device, precision=precision, threads=task.threads
    )
    weights, drift = task.model.weights, task.drift.get(BIG)
    outer, inner = maps.products(weights[BIG], gram=task.gram is None)
    pushed = torch.zeros_like(outer) if drift is None else maps.products(drift)[0]
    if task.gram is not None:
        inner = torch.from_numpy(task.gram).to(task.device)
    tail = _Tail(task)
    place = _Coordinates(inner.new_ones(1), inner.new_zeros(outer.shape), inner.new_zeros(1))
    with torch.no_grad():
        loss = float(tail.loss(outer, torch.arange(len(task.table), device=task.device)))
    descent = _Descent([*place.tensors(), *tail.small.values()], task)
    for batch in batches(task):
        hidden = place.kept * outer[batch] + inner[batch] @ place.mix + place.drifted * pushed[batch]
        of_hidden = tail.backward(hidden.requires_grad_(), batch)
        place.set_gradient(batch, of_hidden, pull=task.training.pull, drift=drift is not None)
        descent.step()
    changes = {**tail.changes(), BIG: _expand(task, maps, place, inner, rank_tolerance)}
    ordered = {name: changes[name] for name in weights}
    return LocalUpdate(changes=ordered, loss=loss, cases=len(task.table), gram=inner.cpu().numpy())


def _expand(
    task: LocalTask, maps: StandardisedMaps, place: _Coordinates, inner: Tensor, tolerance: float | None
) -> Change:
    """The change of the big layer: its one materialisation."""
    kept = float(place.kept) - 1
    if tolerance is not None and BIG not in task.drift and task.model.weights[BIG].size >= SMALL:
        left = leading_directions(place.mix.T @ inner @ place.mix, tolerance)
        return LowRank(kept, left.float().cpu().numpy(), maps.combine(place.mix @ left))
    parts: list[tuple[float, np.ndarray]] = [(kept, task.model.weights[BIG])]
    if BIG in task.drift:
        parts.append((float(place.drifted), task.drift[BIG]))
    return maps.combine(place.mix, parts)
