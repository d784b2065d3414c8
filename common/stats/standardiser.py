"""standardiser: centre and scale of every feature, whichever statistic they come from.

`from_moments` mean and standard deviation (global, or one site's own); `from_quartiles` median and
interquartile range / 1.349, which a few outlying cases cannot move.  A constant feature passes as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.arrays import FeatureArray, FeatureVector
from common.stats.moments import Moments

__all__ = ["Standardiser", "from_moments", "from_quartiles"]

NORMAL_RANGE = 1.3489795003921634
"""Interquartile range of a normal distribution of deviation 1."""


@dataclass(frozen=True)
class Standardiser:
    """centre, scale: per feature, in the feature's unit; scale is never 0."""

    centre: FeatureVector
    scale: FeatureVector

    def apply(self, values: FeatureArray) -> FeatureArray:
        """Dimensionless values of any cases."""
        return np.asarray((values - self.centre) / self.scale)


def from_moments(moments: Moments) -> Standardiser:
    """Z-score."""
    return Standardiser(moments.mean, moments.deviation)


def from_quartiles(quartiles: np.ndarray[Any, np.dtype[np.float64]]) -> Standardiser:
    """Robust z-score, from (features, 3) quartiles (common/stats/quantiles.py)."""
    width = (quartiles[:, 2] - quartiles[:, 0]) / NORMAL_RANGE
    return Standardiser(quartiles[:, 1], np.where(width > 0, width, 1.0))
