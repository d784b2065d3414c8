"""nyul: a brain's percentiles brought to the study's standard scale, straight lines between them (Nyul and Udupa 1999).

The landmarks are the percentiles 1, 10, 20 ... 90, 99 (Shah et al. 2011); beyond the outer two their lines go on.
Where the scale comes from: common/stats/landmarks.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.config.preprocessing import LANDMARK_PERCENTILES

__all__ = ["landmarks_of", "on_standard_scale"]

Values = np.ndarray[Any, np.dtype[np.float64]]


def landmarks_of(values: Values) -> Values:
    """Percentiles of the brain's voxels.  ValueError where two are the same: their line would stand upright."""
    if values.size == 0:
        raise ValueError("no voxels")
    found: Values = np.asarray(np.percentile(values, LANDMARK_PERCENTILES))
    if not (np.diff(found) > 0).all():
        raise ValueError(f"landmarks of {values.size} voxels do not rise")
    return found


def on_standard_scale(values: Values, scale: Sequence[float]) -> Values:
    """values: of the brain's voxels; scale: where each landmark goes."""
    here, there = landmarks_of(values), np.asarray(scale)
    piece = np.clip(np.searchsorted(here, values) - 1, 0, len(here) - 2)
    slope = np.diff(there) / np.diff(here)
    moved: Values = there[piece] + slope[piece] * (values - here[piece])
    return moved
