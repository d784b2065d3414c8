"""norm_clip: changes longer than the median are shortened to it, then averaged (Sun et al. 2019, arXiv 1911.07963).

Keeps the sites' weights and, without an attacker, loses little; one site's update scaled a hundredfold counts as one
of ordinary length.  Needs every site's norm, hence not for secure aggregation.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from common.config.training import TrainingSettings
from common.stats.weight_norm import weight_norm
from server.strategy.arithmetic import moved
from server.strategy.fedavg import mean_change
from server.strategy.update import SiteUpdate, Weights, shares

__all__ = ["norm_clip"]


def norm_clip(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Keeps no memory."""
    del round_number
    norms = [weight_norm(update.changes) for update in updates]
    bound = median(norms)
    factors = [p * min(1.0, bound / norm) if norm else p for p, norm in zip(shares(updates), norms, strict=True)]
    return moved(before, mean_change(updates, factors), training.server.rate), memory
