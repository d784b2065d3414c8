"""geometric_median: the change with the least summed distance to all sites' (Pillutla et al. 2022, arXiv 1912.13445).

Weiszfeld's iteration on the n x n products of the changes: the median lies in their span, so a step needs no array
of weights; one pass makes the products, one the result.  Bears less than half of the weight being broken, at any
distance; the robust option we recommend (notes: at least as good as norm clipping in 11 of 12 attacks).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.config.training import TrainingSettings
from server.strategy.arithmetic import moved
from server.strategy.fedavg import mean_change
from server.strategy.update import SiteUpdate, Weights, shares

__all__ = ["geometric_median"]

STEPS = 200
SMOOTH = 1e-9
WIDTH = 65536


def geometric_median(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Keeps no memory."""
    del round_number
    factors = _weiszfeld(_products(updates), np.array(shares(updates)))
    return moved(before, mean_change(updates, factors.tolist()), training.server.rate), memory


def _products(updates: Sequence[SiteUpdate]) -> np.ndarray[Any, Any]:
    """Inner products of the changes, sites x sites."""
    total = np.zeros((len(updates), len(updates)))
    for name in sorted(updates[0].changes):
        flat = [update.changes[name].reshape(-1) for update in updates]
        for begin in range(0, flat[0].size, WIDTH):
            block = np.stack([a[begin : begin + WIDTH] for a in flat]).astype(np.float64)
            total += np.einsum("in,jn->ij", block, block)
    return total


def _weiszfeld(products: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Factors of the changes, adding up to one."""
    factors: np.ndarray[Any, Any] = weights
    length = np.sqrt(np.trace(products)) or 1.0
    for _ in range(STEPS):
        squares = np.diag(products) - 2 * products @ factors + factors @ products @ factors
        pulls = weights / np.maximum(np.sqrt(np.maximum(squares, 0)), SMOOTH * length)
        following: np.ndarray[Any, Any] = pulls / pulls.sum()
        if np.abs(following - factors).max() < 1e-12:
            return following
        factors = following
    return factors
