"""fedopt: Adam and Yogi on the server (Reddi et al. 2021, arXiv 2003.00295, algorithm 2).

    d <- mean change;  m <- b1 m + (1 - b1) d
    Adam  v <- b2 v + (1 - b2) d^2
    Yogi  v <- v - (1 - b2) d^2 sign(v - d^2)
    w <- w + adaptive_rate * m / (sqrt(v) + adaptivity)

v starts at adaptivity^2 and there is no bias correction, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from common.config.training import TrainingSettings
from server.strategy.arithmetic import combine, weighted_sum
from server.strategy.fedavg import mean_change
from server.strategy.update import SiteUpdate, Weights

__all__ = ["fedadam", "fedyogi"]

Array = np.ndarray[Any, Any]


def _merge(
    before: Weights,
    updates: Sequence[SiteUpdate],
    memory: Weights,
    training: TrainingSettings,
    *,
    yogi: bool,
) -> tuple[Weights, Weights]:
    """Memory: `first:name` and `second:name` for every array of weights."""
    server = training.server
    after: dict[str, Array] = {}
    kept: dict[str, Array] = {}
    for name, change in mean_change(updates).items():
        first = memory[f"first:{name}"] if memory else np.zeros_like(change)
        second = memory[f"second:{name}"] if memory else np.full_like(change, server.adaptivity**2)
        first = weighted_sum([first, change], [server.first_moment, 1 - server.first_moment])
        second = combine([second, change], partial(_second_moment, yogi=yogi, decay=server.second_moment))
        rule = partial(_step, rate=server.adaptive_rate, adaptivity=server.adaptivity)
        after[name] = combine([before[name], first, second], rule)
        kept |= {f"first:{name}": first, f"second:{name}": second}
    return after, kept


def _second_moment(block: Array, *, yogi: bool, decay: float) -> Array:
    second, square = block[0], block[1] ** 2
    if yogi:
        return np.asarray(second - (1 - decay) * square * np.sign(second - square))
    return np.asarray(decay * second + (1 - decay) * square)


def _step(block: Array, *, rate: float, adaptivity: float) -> Array:
    weight, first, second = block
    return np.asarray(weight + rate * first / (np.sqrt(second) + adaptivity))


def fedadam(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Adam's second moment."""
    del round_number
    return _merge(before, updates, memory, training, yogi=False)


def fedyogi(
    before: Weights, updates: Sequence[SiteUpdate], memory: Weights, training: TrainingSettings, round_number: int
) -> tuple[Weights, Weights]:
    """Yogi's second moment, which forgets slowly."""
    del round_number
    return _merge(before, updates, memory, training, yogi=True)
