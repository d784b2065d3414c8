"""measure: the features asked for, of one image inside one region; nothing else is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.features.engine.first_order import FIRST_ORDER, FirstOrder
from client.features.engine.glcm import GLCM, Glcm
from client.features.engine.gldm import GLDM, count_dependences
from client.features.engine.glrlm import GLRLM, count_runs
from client.features.engine.glszm import GLSZM, count_zones
from client.features.engine.grey_levels import GreyLevels, bin_grey_levels
from client.features.engine.level_by_size import LEVEL_BY_SIZE, LevelBySize
from client.features.engine.look_around import look_around
from client.features.engine.ngtdm import NGTDM, Ngtdm
from client.features.engine.region import Region
from client.features.engine.settings import EngineSettings
from client.features.engine.shape import SHAPE, Shape
from common.errors import InputError

__all__ = ["KNOWN_FEATURES", "measure_image", "measure_shape"]

MOST_LEVELS = 2048
"""Grey levels a texture matrix may have: 13 matrices of 2048 x 2048 take 0.4 GiB."""

Names = tuple[str, ...]

KNOWN_FEATURES: dict[str, frozenset[str]] = {
    "shape": frozenset(SHAPE),
    "firstorder": frozenset(FIRST_ORDER),
    "glcm": frozenset(GLCM),
    "gldm": frozenset(GLDM),
    "glrlm": frozenset(GLRLM),
    "glszm": frozenset(GLSZM),
    "ngtdm": frozenset(NGTDM),
}


def measure_shape(region: Region, names: Names) -> dict[str, float]:
    """Features of class shape."""
    shape = Shape(region)
    return {name: float(SHAPE[name](shape)) for name in names}


def measure_image(
    voxels: NDArray[Any], region: Region, settings: EngineSettings, wanted: Mapping[str, Names]
) -> tuple[dict[tuple[str, str], float], int]:
    """Features of the classes in `wanted` by (class, feature), and the number of grey levels present.

    voxels: finite intensities of the region in raster order, in the image's own number format.
    """
    levels = bin_grey_levels(voxels, settings)
    found: dict[tuple[str, str], float] = {}
    if names := wanted.get("firstorder"):
        intensities = FirstOrder(voxels, levels, region.spacing, settings)
        found.update({("firstorder", name): float(FIRST_ORDER[name](intensities)) for name in names})
    if any(wanted.get(family) for family in TEXTURES):
        _check_levels(levels)
        found.update(_textures(region, levels, settings, wanted))
    return found, len(levels)


TEXTURES = ("glcm", "gldm", "glrlm", "glszm", "ngtdm")


def _textures(
    region: Region, levels: GreyLevels, settings: EngineSettings, wanted: Mapping[str, Names]
) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}

    def take(family: str, features: Mapping[str, Callable[[Any], Any]], subject: Any) -> None:
        found.update({(family, name): _mean(features[name](subject)) for name in wanted[family]})

    def take_shared(family: str, features: Mapping[str, str], subject: LevelBySize) -> None:
        found.update({(family, name): _mean(LEVEL_BY_SIZE[features[name]](subject)) for name in wanted[family]})

    pairs, alike, total = (bool(wanted.get(family)) for family in ("glcm", "gldm", "ngtdm"))
    if pairs or alike or total:
        around = look_around(region, levels, pairs=pairs, alike=alike, total=total, alpha=settings.gldm_alpha)
        if pairs:
            take("glcm", GLCM, Glcm(around.pairs, levels, region, settings))
        if alike:
            take_shared("gldm", GLDM, count_dependences(levels, around.alike))
        if total:
            take("ngtdm", NGTDM, Ngtdm(levels, around.total, region.neighbour_count))
    if wanted.get("glrlm"):
        take_shared("glrlm", GLRLM, count_runs(region, levels, settings))
    if wanted.get("glszm"):
        take_shared("glszm", GLSZM, count_zones(region, levels))
    return found


def _mean(values: Any) -> float:
    """Mean over directions, NaN left out; NaN where there is none (a ROI without two neighbours)."""
    flat = np.atleast_1d(values)
    good = flat[~np.isnan(flat)]
    return float(good.mean()) if good.size else float("nan")


def _check_levels(levels: GreyLevels) -> None:
    if levels.highest > MOST_LEVELS:
        raise InputError(
            "too-many-grey-levels",
            field="binWidth",
            problem=f"The region spans {levels.highest} grey levels; a texture matrix may have {MOST_LEVELS}.",
            fix="Normalise the image, choose a larger binWidth, or a binCount.",
        )
