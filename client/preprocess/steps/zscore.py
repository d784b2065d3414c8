"""zscore: mean 0 and standard deviation 1 inside the brain mask (METHOD R16)."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["zscored"]


def zscored(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """values: of the brain's voxels, float64.  ValueError where there is nothing to normalise."""
    if values.size == 0 or values.std() <= 1e-9 * max(abs(values.mean()), 1e-9):
        raise ValueError(f"{values.size} voxels")
    scored: np.ndarray[Any, Any] = (values - values.mean()) / values.std()
    return scored
