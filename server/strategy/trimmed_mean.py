"""trimmed_mean: of every weight's change, without the b smallest and b largest (Yin et al. 2018, arXiv 1803.01498).

b is `server.hostile_sites`; with no more than 2 b sites only their median is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.config.training import TrainingSettings
from server.strategy.arithmetic import combine, moved
from server.strategy.update import SiteUpdate, Weights

__all__ = ["trimmed_mean"]


def trimmed_mean(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Keeps no memory."""
    del round_number
    cut = min(training.server.hostile_sites, (len(updates) - 1) // 2)

    def rule(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if len(updates) <= 2 * training.server.hostile_sites:
            return np.asarray(np.median(block, axis=0))
        return np.asarray(np.sort(block, axis=0)[cut : len(block) - cut].mean(axis=0))

    change = {name: combine([u.changes[name] for u in updates], rule) for name in before}
    return moved(before, change, training.server.rate), memory
