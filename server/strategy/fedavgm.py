"""fedavgm: federated averaging with momentum on the server (Hsu et al. 2019, arXiv 1909.06335).

    v <- momentum * v + mean change;   w <- w + rate * v

With FedSGD this is the heavy ball method on pooled data.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.config.training import TrainingSettings
from server.strategy.arithmetic import moved, weighted_sum
from server.strategy.fedavg import mean_change
from server.strategy.update import SiteUpdate, Weights

__all__ = ["fedavgm"]


def fedavgm(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Memory: v, one array per array of weights."""
    del round_number
    velocity = mean_change(updates)
    if memory:
        velocity = {n: weighted_sum([memory[n], v], [training.server.momentum, 1.0]) for n, v in velocity.items()}
    return moved(before, velocity, training.server.rate), velocity
