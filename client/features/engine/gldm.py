"""gldm: how many neighbours of each voxel have its grey level, within `gldm_alpha` (Sun and Wee 1983).

The size of the shared formulas is one more than the number of dependent neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.features.engine.grey_levels import GreyLevels
from client.features.engine.level_by_size import LevelBySize

__all__ = ["GLDM", "count_dependences"]

GLDM = {
    "DependenceEntropy": "entropy",
    "DependenceNonUniformity": "size non-uniformity",
    "DependenceNonUniformityNormalized": "size non-uniformity normalised",
    "DependenceVariance": "size variance",
    "GrayLevelNonUniformity": "level non-uniformity",
    "GrayLevelVariance": "level variance",
    "HighGrayLevelEmphasis": "high",
    "LargeDependenceEmphasis": "large",
    "LargeDependenceHighGrayLevelEmphasis": "large high",
    "LargeDependenceLowGrayLevelEmphasis": "large low",
    "LowGrayLevelEmphasis": "low",
    "SmallDependenceEmphasis": "small",
    "SmallDependenceHighGrayLevelEmphasis": "small high",
    "SmallDependenceLowGrayLevelEmphasis": "small low",
}


def count_dependences(levels: GreyLevels, alike: NDArray[np.int32]) -> LevelBySize:
    """alike: (N,) dependent neighbours of each voxel, from `look_around`."""
    width = int(alike.max()) + 1
    counts = np.bincount((levels.rank.astype(np.intp) - 1) * width + alike, minlength=len(levels) * width)
    matrix = counts.reshape(1, len(levels), width).astype(np.float64)
    return LevelBySize(matrix, levels.values, np.arange(1, width + 1))
