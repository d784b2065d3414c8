"""private: one round of DP-SGD at one site: what the update tells of any one case is bounded (Opacus).

    each step   every case takes part with probability q, on its own        Poisson sampling
                its gradient, over all weights together, is cut to length C  max_grad_norm
                g = (sum of them + Gaussian noise of deviation z C) / (q n)  n: training cases, taken as public
                the local optimiser goes on with g: momentum, decay and pull see nothing else of the cases

Guarantee: with the incoming model, the features' scale and n fixed, a round is `steps` Poisson-sampled Gaussian
mechanisms of noise multiplier z and rate q (common/privacy/accounting.py); neighbours differ in one case more or less.
Scale, signature and harmonisation are not part of it (docs/privacy.md says what of them is covered).  No loss is told.
Noise 0, rate 1 and a C longer than every gradient give the plain step of client/training/fused.py.

An empty sample is a step of noise alone: to skip it would tell that it was empty.
Source: Abadi et al. 2016, arXiv 1607.00133; Yousefpour et al. 2021, arXiv 2109.12298 (Opacus).
"""

from __future__ import annotations

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from client.training.local_task import LocalTask, LocalUpdate, Privately, local_optimiser, signature_values, targets
from client.training.standardised import StandardisedMaps
from common.networks.fused_head import FusedHead
from common.privacy.noise import NoiseStream
from common.tables import require_training

__all__ = ["train_private"]


class _NoisyOptimiser(DPOptimizer):
    """Opacus' clipping with our noise: its own comes from torch's generator (common/privacy/noise.py says why not)."""

    def __init__(self, optimiser: torch.optim.Optimizer, private: Privately, *, expected: float) -> None:
        super().__init__(
            optimiser,
            noise_multiplier=private.noise_multiplier,
            max_grad_norm=private.settings.max_grad_norm,
            expected_batch_size=expected,
        )
        self._noise: NoiseStream = private.noise

    def add_noise(self) -> None:
        """To the sum of the clipped gradients."""
        deviation = self.noise_multiplier * self.max_grad_norm
        for value in self.params:
            drawn = torch.from_numpy(self._noise.gaussian(value.numel(), deviation)).to(value.device, value.dtype)
            value.grad = (value.summed_grad + drawn.view_as(value.summed_grad)).view_as(value)


def train_private(task: LocalTask, private: Privately, *, precision: torch.dtype = torch.float32) -> LocalUpdate:
    """One round at one site; the whole of the standardised features is held in memory: for small heads (R49)."""
    require_training(task.table)
    visual = StandardisedMaps.under(task.model, task.visual, device=task.device, precision=precision).whole()
    radiomics = signature_values(task.table, task.model, task.device, precision)
    head = FusedHead(task.visual.length, len(task.model.signature), task.head)
    head.load_state_dict({name: torch.from_numpy(np.array(weight)) for name, weight in task.model.weights.items()})
    head.to(task.device, precision)
    before = {name: value.detach().clone() for name, value in head.named_parameters()}
    cases, rate = len(task.table), private.settings.sampling_rate
    # Opacus multiplies back a mean over the batch; a sum needs nothing, and is 0 over an empty one where a mean is NaN.
    network = GradSampleModule(head, loss_reduction="sum")
    optimiser = _NoisyOptimiser(local_optimiser(list(head.parameters()), task), private, expected=rate * cases)
    target = targets(task.table, task.device)
    for _ in range(private.settings.steps(task.training)):
        sample = torch.from_numpy(np.flatnonzero(private.noise.uniform(cases) < rate)).to(task.device)
        optimiser.zero_grad(set_to_none=True)
        logits = network(visual[sample].requires_grad_(), radiomics[sample])
        nn.functional.cross_entropy(logits, target[sample], reduction="sum").backward()
        optimiser.pre_step()
        _pull(head, before, task.training.pull)
        optimiser.original_optimizer.step()
    changes = {n: (value.detach() - before[n]).float().cpu().numpy() for n, value in head.named_parameters()}
    return LocalUpdate(changes={name: changes[name] for name in task.model.weights}, loss=None, cases=cases)


def _pull(head: nn.Module, before: dict[str, Tensor], weight: float) -> None:
    """FedProx towards the incoming weights, which every site knows."""
    for name, value in head.named_parameters():
        if weight and value.grad is not None:
            value.grad.add_(value.detach() - before[name], alpha=weight)
