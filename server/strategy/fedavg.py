"""fedavg: federated averaging of weight changes (McMahan et al. 2017, arXiv 1602.05629).

    w <- w + rate * sum_k p_k delta_k        p_k: the site's share of cases, or equal

With one full-batch gradient step per site (FedSGD) this is exactly pooled gradient descent.  FedProx (Li et al. 2020,
arXiv 1812.06127) merges in the same way; its pull towards the incoming weights works at the sites.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.config.training import TrainingSettings
from server.strategy.arithmetic import moved, weighted_sum
from server.strategy.update import SiteUpdate, Weights, shares

__all__ = ["fedavg", "mean_change"]


def mean_change(updates: Sequence[SiteUpdate], factors: Sequence[float] | None = None) -> Weights:
    """Sum of factor x change, array by array; factors are the sites' shares unless given."""
    factors = shares(updates) if factors is None else factors
    return {name: weighted_sum((u.changes[name] for u in updates), factors) for name in updates[0].changes}


def fedavg(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Keeps no memory."""
    del round_number
    return moved(before, mean_change(updates), training.server.rate), memory
