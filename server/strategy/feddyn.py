"""feddyn: dynamic regularisation (Acar et al. 2021, arXiv 2111.04263, algorithm 1).

A site minimises  its loss - <g_k, w> + proximal / 2 * |w - w_incoming|^2,  where g_k is the gradient it ended with
before; afterwards  g_k <- g_k - proximal * delta_k  (client/training/variate.py).  The server keeps the mean of g_k:

    h <- h - proximal * sum_k share_k delta_k          share_k: among all sites, asked or not
    w <- w + sum_k p_k delta_k - h / proximal          p_k: among those that answered

The only fixed point has delta_k = 0 and h = 0: the gradients of all sites add up to zero there, so that several local
steps end where pooled training would, which FedAvg's do not.  The paper weighs all sites alike; shares by cases make
the pooled loss its aim.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.config.training import TrainingSettings
from server.strategy.arithmetic import moved, weighted_sum
from server.strategy.fedavg import mean_change
from server.strategy.update import SiteUpdate, Weights

__all__ = ["feddyn"]


def feddyn(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Memory: h, one array per array of weights."""
    del round_number
    pulled = mean_change(updates, [-training.proximal * update.share for update in updates])
    gradient = {n: weighted_sum([memory[n], p], [1.0, 1.0]) for n, p in pulled.items()} if memory else pulled
    reached = moved(before, mean_change(updates))
    return moved(reached, gradient, -1 / training.proximal), gradient
