"""case_mosaic: the slices on which an eye checks a preparation: skull strip, registration to the atlas and of FLAIR.

Every case shows the same eight heights of the atlas, so that a misplaced head stands out among its neighbours.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from PIL import Image
from scipy import ndimage

from client.case import Case
from client.preprocess.atlas import load_atlas

__all__ = ["draw_atlas", "draw_mosaic"]

SLICES, TILE_MM, PIXEL_MM, SQUARE = 8, (224, 192), 1.6, 14
TUMOUR, BRAIN, ATLAS = (1.0, 0.25, 0.2), (0.3, 0.65, 1.0), (1.0, 0.85, 0.2)
Array = np.ndarray[Any, Any]


def draw_mosaic(case: Case, path: Path, atlas: str) -> None:
    """Three rows of axial slices, patient's right on the left, as JPEG.

    T1CE with its head, outlines of brain (blue) and of the atlas' brain (yellow); FLAIR with outlines of brain and
    tumour (red); a chess board of T1CE and FLAIR, on whose squares' borders anatomy must go on.
    """
    if case.brain_mask is None or case.tumour_mask is None:
        raise ValueError("a mosaic needs both masks")
    brain, tumour, expected = (
        _tiles(mask, atlas, case.t1ce) > 0.5 for mask in (case.brain_mask, case.tumour_mask, load_atlas(atlas).mask)
    )
    head = _grey(_tiles(case.head_t1ce or case.t1ce, atlas, case.t1ce), brain)
    t1ce, flair = (_grey(_tiles(image, atlas, case.t1ce), brain) * brain for image in (case.t1ce, case.flair))
    squares = _chess_board(brain.shape[1:])
    rows = (
        _coloured(head, (expected, ATLAS), (brain, BRAIN)),
        _coloured(flair, (brain, BRAIN), (tumour, TUMOUR)),
        _coloured(np.where(squares, t1ce, flair)),
    )
    _write(rows, path)


def draw_atlas(atlas: str, path: Path) -> None:
    """The atlas itself in the same slices, to compare with."""
    loaded = load_atlas(atlas)
    inside = _tiles(loaded.mask, atlas, loaded.brain) > 0.5
    _write([_coloured(_grey(_tiles(loaded.brain, atlas, loaded.brain), inside), (inside, ATLAS))], path)


@lru_cache(2)
def _heights(atlas: str) -> tuple[float, ...]:
    """mm, from the brain's lower to its upper end, without the outermost."""
    mask = load_atlas(atlas).mask
    inside = np.nonzero(sitk.GetArrayViewFromImage(mask).any(axis=(1, 2)))[0]
    low, high = (mask.TransformIndexToPhysicalPoint((0, 0, int(k)))[2] for k in (inside[0], inside[-1]))
    return tuple(float(h) for h in np.linspace(low + 0.08 * (high - low), high - 0.08 * (high - low), SLICES))


def _tiles(image: sitk.Image, atlas: str, about: sitk.Image) -> Array:
    """(slices, rows, columns) of square pixels; the middle of `about` is the middle of each."""
    middle = about.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in about.GetSize()])
    rows, columns = (round(mm / PIXEL_MM) for mm in TILE_MM)
    plane = sitk.Image([columns, rows, 1], sitk.sitkFloat32)
    plane.SetSpacing((PIXEL_MM, PIXEL_MM, 1.0))
    found = []
    for height in _heights(atlas):
        plane.SetOrigin((middle[0] - columns / 2 * PIXEL_MM, middle[1] - rows / 2 * PIXEL_MM, height))
        moved = sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), plane, sitk.Transform(), sitk.sitkLinear, 0.0)
        found.append(sitk.GetArrayFromImage(moved)[0])
    return np.stack(found)


def _chess_board(shape: tuple[int, ...]) -> Array:
    rows, columns = np.indices(shape) // SQUARE
    return np.asarray((rows + columns) % 2 == 0)


def _grey(tiles: Array, brain: Array) -> Array:
    """0 to 1, the brain's own range."""
    if not brain.any():
        return np.zeros_like(tiles)
    low, high = np.percentile(tiles[brain], (0.5, 99.5))
    return np.asarray(np.clip((tiles - low) / max(high - low, 1e-9), 0, 1))


def _coloured(grey: Array, *outlines: tuple[Array, tuple[float, float, float]]) -> Array:
    """One row of the mosaic."""
    picture = np.repeat(grey[..., None], 3, axis=3)
    for regions, colour in outlines:
        for tile, region in zip(picture, regions, strict=True):
            tile[region & ~ndimage.binary_erosion(region)] = colour
    return np.hstack(list(picture))


def _write(rows: list[Array] | tuple[Array, ...], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    Image.fromarray((np.vstack(rows) * 255).astype(np.uint8)).save(beside, "JPEG", quality=85)
    beside.replace(path)
