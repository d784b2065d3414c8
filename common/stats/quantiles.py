"""quantiles: exact order statistics of data that nobody holds together, by counting (R46).

A float64 maps to a uint64 whose order is the float's.  Six bits of the answer are found per exchange: the
server names the leading bits it knows, and every site says how many of its cases share them, by their next
six bits.  After eleven exchanges the order statistics are known to the last bit, whatever the ties and
offsets, with no minimum or maximum ever asked for.

Six bits are a compromise: 8 would need 8 exchanges but four times the bytes in each, 4 would need 16.

Fractions 0 and 1 are the extremes, found the same way; a study should ask for 0.01 and 0.99 instead.

Law: `finish` equals `numpy.quantile(pooled, fractions, axis=0)` (linear) bit for bit.  Needs sums of counts
only.  Cost: linear in cases and features; nothing is sorted.
Disclosure: an exact order statistic is one patient's value.  A protocol that minds takes the edges
`mean_deviation` (common/stats/bin_edges.py), which need no order statistic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.stats.float_keys import Floats, Keys, to_floats, to_keys
from common.tables import TrainingTable, require_training

__all__ = ["DIGITS", "STEPS", "Search", "advance", "combine", "finish", "finished", "start", "summarise"]

BITS = 6
STEPS = -(-64 // BITS)
DIGITS = 1 << BITS
BLOCK = 32
"""Features counted at a time, so that the keys of a thousand cases stay in the processor's cache."""

Counts = np.ndarray[Any, np.dtype[np.uint8 | np.uint16 | np.uint32]]


@dataclass(frozen=True)
class Search:
    """prefix: (features, ranks) bits found so far; below: (features, ranks) cases known to lie below them;
    ranks: sorted 0-based order statistics wanted; cases: pooled training cases; step: exchanges done of
    eleven; fractions: of the quantiles.
    """

    prefix: Keys
    below: np.ndarray[Any, np.dtype[np.int64]]
    ranks: tuple[int, ...]
    cases: int
    step: int
    fractions: tuple[float, ...]


def start(features: int, *, fractions: Sequence[float], cases: int) -> Search:
    """Search the quantiles `fractions` (0 to 1) of every feature."""
    ranks = sorted({rank for f in fractions for rank in _neighbours(f, cases)})
    shape = (features, len(ranks))
    return Search(np.zeros(shape, np.uint64), np.zeros(shape, np.int64), tuple(ranks), cases, 0, tuple(fractions))


def finished(search: Search) -> bool:
    """Whether the order statistics are exact."""
    return search.step == STEPS


def summarise(table: TrainingTable, prefix: Keys, step: int) -> Counts:
    """Runs in the hospital: (features, ranks, 64) cases whose leading bits are `prefix`, by the next six."""
    require_training(table)
    counts = np.zeros((*prefix.shape, DIGITS), np.uint32)
    for begin in range(0, len(prefix), BLOCK):
        block = slice(begin, begin + BLOCK)
        # Compared as keys: they order -0.0 with 0.0 and give every bit pattern a place, NaN's too.
        keys = to_keys(np.ascontiguousarray(table.values[:, block].T))
        _count(keys, prefix[block], step, counts[block])
    # As small as it can be: it is most of what the message weighs.
    return counts.astype(np.min_scalar_type(counts.max(initial=0)))


def _count(keys: Keys, prefix: Keys, step: int, counts: Counts) -> None:
    """Add the cases of (features, cases) keys to (features, ranks, 64) counts."""
    shift, digits = _shift(step), np.uint64((1 << min(BITS, 64 - BITS * step)) - 1)
    # A shift by all 64 bits is undefined; before the first step every case shares the empty prefix.
    leading = keys >> _shift(step - 1) if step else np.zeros_like(keys)
    known = prefix >> _shift(step - 1) if step else np.zeros_like(prefix)
    fresh = np.ones(len(keys), dtype=bool)
    for rank in range(prefix.shape[1]):
        if rank:
            # Neighbouring order statistics share their prefix until they part.
            counts[:, rank] = counts[:, rank - 1]
            fresh = known[:, rank] != known[:, rank - 1]
            counts[fresh, rank] = 0
        rows = np.flatnonzero(fresh)
        # Few cases share a long prefix: only they are counted, not every cell of every feature.
        inside = np.flatnonzero((leading if fresh.all() else leading[rows]) == known[rows, rank, None])
        feature = rows[inside // keys.shape[1]]
        cell = (keys[feature, inside % keys.shape[1]] >> shift) & digits
        place = feature * DIGITS + cell.astype(np.int64)
        counts[:, rank] += np.bincount(place, minlength=len(keys) * DIGITS).reshape(-1, DIGITS).astype(np.uint32)


def combine(parts: Iterable[Counts]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Runs on the server: one running sum, so that no second copy of every site's counts is held.

    Integers, so the order does not matter.
    """
    rest = iter(parts)
    total = next(rest).astype(np.int64)
    for part in rest:
        if part.shape != total.shape:
            raise ValueError(f"counts of shape {part.shape} cannot be added to {total.shape}")
        total += part
    return total


def advance(search: Search, counts: np.ndarray[Any, Any]) -> Search:
    """Runs on the server: six more bits of every order statistic, from the summed counts."""
    up_to = search.below[..., None] + np.cumsum(counts, axis=2, dtype=np.int64)
    digit = (up_to <= np.array(search.ranks)[None, :, None]).sum(axis=2)
    before = np.concatenate([search.below[..., None], up_to], axis=2)
    return replace(
        search,
        prefix=search.prefix | (digit.astype(np.uint64) << _shift(search.step)),
        below=np.take_along_axis(before, digit[..., None], axis=2)[..., 0],
        step=search.step + 1,
    )


def finish(search: Search) -> Floats:
    """(features, fractions) quantiles; numpy's linear interpolation between two order statistics."""
    values = to_floats(search.prefix)
    place = {rank: i for i, rank in enumerate(search.ranks)}
    found = []
    for fraction in search.fractions:
        low, high = _neighbours(fraction, search.cases)
        found.append(_lerp(values[:, place[low]], values[:, place[high]], fraction * (search.cases - 1) - low))
    return np.stack(found, axis=1) if found else np.zeros((len(values), 0))


def _shift(step: int) -> np.uint64:
    """Bits that are still unknown after this step; the last step finds the four that are left of 64."""
    return np.uint64(max(0, 64 - BITS * (step + 1)))


def _neighbours(fraction: float, cases: int) -> tuple[int, int]:
    """The two order statistics a quantile lies between."""
    low = int(np.floor(fraction * (cases - 1)))
    return low, min(low + 1, cases - 1)


def _lerp(low: Floats, high: Floats, weight: float) -> Floats:
    """As numpy interpolates, from the nearer end, so that the last bit agrees."""
    step = high - low
    return high - step * (1 - weight) if weight >= 0.5 else low + step * weight
