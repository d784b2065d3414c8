"""look_around: one walk through every voxel's neighbours, direction by direction, for the three classes that need it.

GLCM counts pairs of levels, GLDM the neighbours that are alike, NGTDM sums their levels.  Only one direction is in
memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.features.engine.grey_levels import GreyLevels
from client.features.engine.region import Region

__all__ = ["Surroundings", "look_around"]


@dataclass(frozen=True)
class Surroundings:
    """pairs: (forward directions, levels, levels) voxels of level i whose forward neighbour has level j.
    alike: (N,) neighbours within alpha of the voxel's own level.  total: (N,) sum of the neighbours' levels.
    """

    pairs: NDArray[np.float64]
    alike: NDArray[np.int32]
    total: NDArray[np.int64]


def look_around(
    region: Region, levels: GreyLevels, *, pairs: bool, alike: bool, total: bool, alpha: int = 0
) -> Surroundings:
    """What is asked for; the rest stays zero.  Outside the ROI the rank is 0, whose row and column are dropped."""
    size, half = len(levels) + 1, len(region.angles) // 2
    rank, grid = levels.rank, region.spread(levels.rank)
    counts = np.zeros((half, size * size), np.int64)
    found_alike, found_total = np.zeros(len(region), np.int32), np.zeros(len(region), np.int64)
    value = np.concatenate([[0], levels.values])
    own, row = value[rank], rank.astype(np.intp) * size
    gapless = levels.highest == len(levels)
    both_ways = alike or total
    for number, step in enumerate(region.steps if both_ways else region.steps[:half]):
        beside = np.take(grid, region.place + step)
        if pairs and number < half:
            counts[number] = np.bincount(row + beside, minlength=size * size)
        if alike and alpha == 0:
            found_alike += beside == rank
        elif alike:
            found_alike += (np.abs(value[beside] - own) <= alpha) & (beside > 0)
        if total:
            found_total += beside if gapless else value[beside]
    return Surroundings(counts.reshape(half, size, size)[:, 1:, 1:].astype(np.float64), found_alike, found_total)
