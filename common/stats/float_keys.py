"""float_keys: float64 as uint64 whose order is the float's, so that order statistics are found bit by bit.

Negative numbers have all bits turned, the others their sign bit only; no two numbers share a key except
-0.0 and 0.0, which comparisons take for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Floats", "Keys", "to_floats", "to_keys"]

_SIGN = np.uint64(1 << 63)

Keys = np.ndarray[Any, np.dtype[np.uint64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def to_keys(values: Floats) -> Keys:
    """Order-preserving map; -0.0 is taken for 0.0, as comparisons take it."""
    bits = np.ascontiguousarray(values + 0.0, np.float64).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def to_floats(keys: Keys) -> Floats:
    """Inverse map; the bit patterns of NaN become the infinity on their side, which no case exceeds."""
    bits = np.where(keys & _SIGN, keys & ~_SIGN, ~keys)
    values = bits.view(np.float64)
    nan = np.isnan(values)
    return np.where(nan, np.where(keys & _SIGN, np.inf, -np.inf), values)
