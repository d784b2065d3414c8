"""scaffold: stochastic controlled averaging (Karimireddy et al. 2020, arXiv 1910.06378, option II).

A site steps along  g + c - c_k,  where c_k is its own mean gradient of the last round and c that of all sites, so
that several local steps do not drift towards the site's own optimum.  Afterwards

    c_k <- c_k - c - delta_k / (steps * rate)
    c   <- c + sum_k share_k * (change of c_k)

The change of c_k is  - c - delta_k / (steps * rate):  the server computes it from the delta it gets anyway, so the
uplink stays one delta, and only c travels down.  c_k lies in the site's cache (client/store/control_variates.py).
share_k counts all sites of the study, so a site that was not asked keeps its part of c.  A site whose answer was lost
after it had trained is one round ahead of its part of c until it is asked again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.config.training import TrainingSettings
from server.strategy.arithmetic import moved, weighted_sum
from server.strategy.fedavg import mean_change
from server.strategy.update import SiteUpdate, Weights

__all__ = ["scaffold"]


def scaffold(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Memory: c, one array per array of weights."""
    present = sum(update.share for update in updates)
    paths = [-u.share / (training.steps(u.cases) * training.rate(round_number)) for u in updates]
    control: dict[str, np.ndarray] = {}
    for name, change in mean_change(updates, paths).items():
        old = memory[name] if memory else np.zeros_like(change)
        control[name] = weighted_sum([old, change], [1 - present, 1.0])
    return moved(before, mean_change(updates), training.server.rate), control
