"""running_sum: the sum of many arrays, one after the other, so that they need not lie in one block of memory.

The order given is the order of the sum; the result has the bits of `numpy.sum(stack, axis=0)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["running_sum"]

Array = np.ndarray[Any, Any]


def running_sum(arrays: Iterable[Array]) -> Array:
    """Of at least one; whole numbers of any size are summed as int64, all others as float64."""
    total: Array | None = None
    for array in arrays:
        if total is None:
            total = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
        else:
            total += array
    if total is None:
        raise ValueError("nothing to sum")
    return total
