"""grey_levels: the ROI's intensities in bins, numbered from 1 (PyRadiomics' rule, bit for bit).

    fixed width W   level = floor(x / W) - floor(min / W) + 1     bins start at a multiple of W
    fixed count B   level = floor(B (x - min) / (max - min)) + 1  the maximum falls into bin B

IBSI's fixed bin size starts at the minimum of the ROI instead of a multiple of the width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from radiomics import imageoperations

from client.features.engine.settings import EngineSettings
from common.errors import InputError

__all__ = ["GreyLevels", "bin_grey_levels"]

MOST_BINS = 1_000_000
"""More bins than this say that the width does not fit the intensities; the list of edges alone would fill memory."""


@dataclass(frozen=True)
class GreyLevels:
    """rank: (N,) number of each voxel's level among those present, from 1, in the smallest whole-number format.
    values: the levels present, ascending.  counts: voxels of each.  highest: PyRadiomics' Ng.
    """

    rank: NDArray[Any]
    values: NDArray[np.int64]
    counts: NDArray[np.int64]
    highest: int

    def __len__(self) -> int:
        return len(self.values)


def bin_grey_levels(voxels: NDArray[Any], settings: EngineSettings) -> GreyLevels:
    """Bin finite intensities.

    InputError `too-many-grey-levels` or `grey-levels-too-close` where width and intensities do not fit.
    """
    extremes = np.array([voxels.min(), voxels.max()])
    _check_range(extremes, settings)
    # The edges depend on minimum and maximum only; PyRadiomics' own function keeps them equal to the last bit.
    try:
        edges = imageoperations.getBinEdges(extremes, binWidth=settings.bin_width, binCount=settings.bin_count)
    except ValueError:
        raise InputError(
            "grey-levels-too-close",
            field="binCount",
            problem="The region's intensities differ by less than their number format can divide into bins.",
            fix="Check the image; scale it, or store it as 64-bit.",
        ) from None
    level = np.searchsorted(edges, voxels, side="right")
    counts = np.bincount(level)
    present = np.flatnonzero(counts)
    rank_of = np.zeros(len(counts), np.min_scalar_type(len(present)))
    rank_of[present] = np.arange(1, len(present) + 1)
    return GreyLevels(rank_of[level], present, counts[present], int(present[-1]))


def _check_range(extremes: NDArray[Any], settings: EngineSettings) -> None:
    span = float(extremes[1]) - float(extremes[0])
    if extremes.dtype.kind == "f" and span > float(np.finfo(extremes.dtype).max) / 4:
        raise InputError(
            "intensities-too-large",
            field="image",
            problem="The range of the region's intensities overflows their number format.",
            fix="Check the image for artefacts; normalise it.",
        )
    if settings.bin_count is None and span / settings.bin_width > MOST_BINS:
        raise InputError(
            "too-many-grey-levels",
            field="binWidth",
            problem=f"The region's intensities span more than {MOST_BINS} bins of width {settings.bin_width}.",
            fix="Normalise the image, choose a larger binWidth, or a binCount.",
        )
