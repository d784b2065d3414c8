"""arithmetic: over the sites' arrays, number by number, in blocks that fit the processor's cache.

Sums run in double precision in the order given, which callers fix by site name: the order in which replies arrive
never changes a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from server.strategy.update import Weights

__all__ = ["combine", "moved", "weighted_sum"]

Array = np.ndarray[Any, Any]
WIDTH = 16384


def combine(arrays: Sequence[Array], rule: Callable[[Array], Array]) -> Array:
    """`rule` turns (sites, numbers) float64 into (numbers,); float32 in the arrays' shape."""
    flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
    result = np.empty(flat[0].size, np.float32)
    for begin in range(0, result.size, WIDTH):
        block = np.stack([a[begin : begin + WIDTH] for a in flat]).astype(np.float64)
        result[begin : begin + WIDTH] = rule(block)
    return result.reshape(arrays[0].shape)


def weighted_sum(arrays: Iterable[Array], factors: Sequence[float]) -> Array:
    """Sum of factor x array, float32; takes one array after the other, so that they need not be there at once."""
    total, shape = np.zeros(0), ()
    for factor, array in zip(factors, arrays, strict=True):
        flat, shape = np.ascontiguousarray(array).reshape(-1), array.shape
        total = total if total.size else np.zeros(flat.size)
        for begin in range(0, flat.size, WIDTH):
            total[begin : begin + WIDTH] += np.multiply(flat[begin : begin + WIDTH], factor, dtype=np.float64)
    return total.astype(np.float32).reshape(shape)


def moved(before: Weights, change: Weights, factor: float = 1.0) -> Weights:
    """New float32 weights: before + factor x change."""
    return {name: weighted_sum([weight, change[name]], [1.0, factor]) for name, weight in before.items()}
