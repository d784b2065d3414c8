"""weight_norm: the length of a change of weights, as one vector over all arrays.

Squares are added in double precision in blocks of fixed size, so that the result depends on no BLAS and no cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["weight_norm"]

WIDTH = 65536


def weight_norm(arrays: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """Euclidean norm; 0 for nothing, infinite or NaN where an array is."""
    total, wide = 0.0, np.empty(WIDTH)
    for name in sorted(arrays):
        flat = arrays[name].reshape(-1)
        for begin in range(0, flat.size, WIDTH):
            numbers = flat[begin : begin + WIDTH]
            block = wide[: len(numbers)]
            block[:] = numbers
            total += float(np.sum(np.square(block, out=block)))
    return float(np.sqrt(total))
