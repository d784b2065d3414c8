"""coordinate_median: the median of every single weight's change (Yin et al. 2018, arXiv 1803.01498).

Bears fewer than half of the sites being broken; ignores how many cases a site has, and with few unlike hospitals
costs accuracy (notes: 0.05 of AUC at five and ten sites without any attacker).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.config.training import TrainingSettings
from server.strategy.arithmetic import combine, moved
from server.strategy.update import SiteUpdate, Weights

__all__ = ["coordinate_median"]


def coordinate_median(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Keeps no memory."""
    del round_number
    change = {n: combine([u.changes[n] for u in updates], lambda block: np.median(block, axis=0)) for n in before}
    return moved(before, change, training.server.rate), memory
