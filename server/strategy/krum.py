"""krum: the one change that lies closest to the others (Blanchard et al. 2017, NeurIPS).

A site's score is the sum of squared distances to its n - f - 2 nearest others, f = `server.hostile_sites`; ties go
to the first by name.  Throws away all sites but one: with unlike hospitals it loses 0.15 of AUC without any attacker.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.config.training import TrainingSettings
from common.stats.weight_norm import weight_norm
from server.strategy.arithmetic import moved, weighted_sum
from server.strategy.update import SiteUpdate, Weights

__all__ = ["krum"]


def krum(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Keeps no memory."""
    del round_number
    n = len(updates)
    distances = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            distances[i, j] = distances[j, i] = _distance(updates[i].changes, updates[j].changes) ** 2
    near = max(1, n - training.server.hostile_sites - 2)
    scores = [np.sort(np.delete(row, i))[:near].sum() for i, row in enumerate(distances)]
    chosen = updates[int(np.argmin(scores))]
    return moved(before, chosen.changes, training.server.rate), memory


def _distance(one: Weights, other: Weights) -> float:
    return weight_norm({name: weighted_sum([one[name], other[name]], [1.0, -1.0]) for name in one})
