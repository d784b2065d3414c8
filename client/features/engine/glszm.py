"""glszm: zones, the connected regions of equal grey level (Thibault 2009); voxels touch by face, edge or corner."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from client.features.engine.grey_levels import GreyLevels
from client.features.engine.level_by_size import LevelBySize
from client.features.engine.region import Region

__all__ = ["GLSZM", "count_zones"]

GLSZM = {
    "GrayLevelNonUniformity": "level non-uniformity",
    "GrayLevelNonUniformityNormalized": "level non-uniformity normalised",
    "GrayLevelVariance": "level variance",
    "HighGrayLevelZoneEmphasis": "high",
    "LargeAreaEmphasis": "large",
    "LargeAreaHighGrayLevelEmphasis": "large high",
    "LargeAreaLowGrayLevelEmphasis": "large low",
    "LowGrayLevelZoneEmphasis": "low",
    "SizeZoneNonUniformity": "size non-uniformity",
    "SizeZoneNonUniformityNormalized": "size non-uniformity normalised",
    "SmallAreaEmphasis": "small",
    "SmallAreaHighGrayLevelEmphasis": "small high",
    "SmallAreaLowGrayLevelEmphasis": "small low",
    "ZoneEntropy": "entropy",
    "ZonePercentage": "percentage",
    "ZoneVariance": "size variance",
}


def count_zones(region: Region, levels: GreyLevels) -> LevelBySize:
    """Components of the graph whose edges join touching voxels of one level."""
    rank, beside = levels.rank, region.touching
    outside = np.zeros(1, rank.dtype)
    joined = np.take(np.concatenate([rank, outside]), beside) == rank[:, None]
    ends = np.zeros(len(region) + 1, np.int32)
    np.cumsum(np.count_nonzero(joined, axis=1), out=ends[1:])
    targets = np.take(beside.reshape(-1), np.flatnonzero(joined))
    graph = csr_matrix((np.ones(len(targets)), targets, ends), shape=(len(region), len(region)))
    graph.has_canonical_format = True  # no edge is listed twice; SciPy would sort them all to find out
    zones, zone_of = connected_components(graph, directed=True, connection="weak")
    level = np.zeros(zones, np.intp)
    level[zone_of] = rank
    sizes, size = np.unique(np.bincount(zone_of), return_inverse=True)
    counts = np.bincount((level - 1) * len(sizes) + size, minlength=len(levels) * len(sizes))
    return LevelBySize(counts.reshape(1, len(levels), len(sizes)).astype(np.float64), levels.values, sizes)
