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
    total = 0.0
    for name in sorted(arrays):
        flat = arrays[name].reshape(-1)
        for begin in range(0, flat.size, WIDTH):
            block = flat[begin : begin + WIDTH].astype(np.float64)
            total += float(np.sum(block * block))
    return float(np.sqrt(total))
