"""glrlm: runs of equal grey level along the thirteen directions (Galloway 1975); features are means over them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.features.engine.glcm import weigh_angles
from client.features.engine.grey_levels import GreyLevels
from client.features.engine.level_by_size import LevelBySize
from client.features.engine.region import Region
from client.features.engine.settings import EngineSettings

__all__ = ["GLRLM", "count_runs"]

GLRLM = {
    "GrayLevelNonUniformity": "level non-uniformity",
    "GrayLevelNonUniformityNormalized": "level non-uniformity normalised",
    "GrayLevelVariance": "level variance",
    "HighGrayLevelRunEmphasis": "high",
    "LongRunEmphasis": "large",
    "LongRunHighGrayLevelEmphasis": "large high",
    "LongRunLowGrayLevelEmphasis": "large low",
    "LowGrayLevelRunEmphasis": "low",
    "RunEntropy": "entropy",
    "RunLengthNonUniformity": "size non-uniformity",
    "RunLengthNonUniformityNormalized": "size non-uniformity normalised",
    "RunPercentage": "percentage",
    "RunVariance": "size variance",
    "ShortRunEmphasis": "small",
    "ShortRunHighGrayLevelEmphasis": "small high",
    "ShortRunLowGrayLevelEmphasis": "small low",
}


def count_runs(region: Region, levels: GreyLevels, settings: EngineSettings) -> LevelBySize:
    """A run starts where the line does, after a gap in the ROI, or where the level changes."""
    lines = region.lines
    found = [
        _runs(np.take(levels.rank, order), starts) for order, starts in zip(lines.order, lines.starts, strict=True)
    ]
    longest = max((int(length.max()) for _, length in found), default=1)
    counts: NDArray[Any] = np.zeros((len(found), len(levels), longest))
    for number, (level, length) in enumerate(found):
        code = (level.astype(np.intp) - 1) * longest + length - 1
        counts[number] = np.bincount(code, minlength=len(levels) * longest).reshape(len(levels), longest)
    if settings.weighting is not None and found:
        counts = np.tensordot(weigh_angles(lines.angles, region.spacing, settings.weighting), counts, axes=1)[None]
    return LevelBySize(counts, levels.values, np.arange(1, longest + 1))


def _runs(along: NDArray[Any], starts: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Level and length of each run of one direction."""
    begins = starts.copy()
    begins[1:] |= along[1:] != along[:-1]
    first = np.flatnonzero(begins)
    return along[first], np.diff(first, append=along.size)
