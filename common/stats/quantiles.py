"""quantiles: exact order statistics of data that nobody holds together, by counting (R46).

A float64 maps to a uint64 whose order is the float's; eight bits of the answer are found per exchange, by
asking every site how many cases lie at or below 255 thresholds.  After eight exchanges the order statistics
are known to the last bit, whatever the ties and offsets, with no minimum or maximum ever asked for.

Law: `finish` equals `numpy.quantile(pooled, fractions, axis=0)` (linear) bit for bit.  Needs sums only.
Disclosure: an exact order statistic is one patient's value; a protocol that minds asks for fixed edges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.stats.float_keys import Keys, to_floats, to_keys
from common.tables import TrainingTable, require_training

__all__ = ["Search", "advance", "finish", "finished", "start", "summarise", "thresholds"]

BITS = 8
STEPS = 64 // BITS

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Search:
    """prefix: (features, ranks) bits found so far; ranks: sorted 0-based order statistics wanted;
    cases: pooled training cases; step: exchanges done of eight; fractions: of the quantiles.
    """

    prefix: Keys
    ranks: tuple[int, ...]
    cases: int
    step: int
    fractions: tuple[float, ...]


def start(features: int, *, bins: int, cases: int) -> Search:
    """Search the edges of `bins` equal-frequency bins."""
    fractions = tuple(np.arange(1, bins) / bins)
    ranks = sorted({rank for f in fractions for rank in _neighbours(f, cases)})
    return Search(np.zeros((features, len(ranks)), np.uint64), tuple(ranks), cases, 0, fractions)


def finished(search: Search) -> bool:
    """Whether the order statistics are exact."""
    return search.step == STEPS


def thresholds(search: Search) -> Floats:
    """(features, ranks, 255) values to count at or below: the last value of each sub-interval but one."""
    shift = np.uint64(64 - BITS * (search.step + 1))
    digits = np.arange(2**BITS - 1, dtype=np.uint64)
    below = (np.uint64(1) << shift) - np.uint64(1)
    return to_floats(search.prefix[..., None] | (digits << shift) | below)


def summarise(table: TrainingTable, limits: Floats) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Runs in the hospital: cases at or below each threshold, of the same shape as `limits`."""
    require_training(table)
    # Compared as keys: they order -0.0 before 0.0 and give every bit pattern a place, NaN's too.
    ordered = np.sort(to_keys(table.values), axis=0)
    wanted = to_keys(limits)
    counts = np.empty(limits.shape, np.int64)
    for feature in range(limits.shape[0]):
        counts[feature] = np.searchsorted(ordered[:, feature], wanted[feature], side="right")
    return counts


def advance(search: Search, counts: np.ndarray[Any, np.dtype[np.int64]]) -> Search:
    """Runs on the server: eight more bits of every order statistic, from the summed counts."""
    ranks = np.array(search.ranks)[None, :, None]
    digit = (counts <= ranks).sum(axis=2).astype(np.uint64)
    shift = np.uint64(64 - BITS * (search.step + 1))
    return replace(search, prefix=search.prefix | (digit << shift), step=search.step + 1)


def finish(search: Search) -> Floats:
    """(features, bins - 1) edges; numpy's linear interpolation between two order statistics."""
    values = to_floats(search.prefix)
    place = {rank: i for i, rank in enumerate(search.ranks)}
    edges = []
    for fraction in search.fractions:
        low, high = _neighbours(fraction, search.cases)
        edges.append(_lerp(values[:, place[low]], values[:, place[high]], fraction * (search.cases - 1) - low))
    return np.stack(edges, axis=1) if edges else np.zeros((len(values), 0))


def _neighbours(fraction: float, cases: int) -> tuple[int, int]:
    """The two order statistics a quantile lies between."""
    low = int(np.floor(fraction * (cases - 1)))
    return low, min(low + 1, cases - 1)


def _lerp(low: Floats, high: Floats, weight: float) -> Floats:
    """As numpy interpolates, from the nearer end, so that the last bit agrees."""
    step = high - low
    return high - step * (1 - weight) if weight >= 0.5 else low + step * weight
