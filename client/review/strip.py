"""strip: what a reader changed, as one picture: three planes, both sequences, automatic red under final green."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from client.review.reader_files import ReaderFiles

__all__ = ["draw_strip"]

AUTOMATIC, FINAL = (1.0, 0.25, 0.2), (0.2, 1.0, 0.35)
TILE = 240
Plane = np.ndarray[Any, Any]


def draw_strip(files: ReaderFiles, final: sitk.Image, path: Path) -> None:
    """Axial, coronal and sagittal slices where the final mask is largest, T1CE above, FLAIR below."""
    before, after, brain = (
        sitk.GetArrayFromImage(image) > 0 for image in (files.read("automatic"), final, files.read("brain"))
    )
    rows = []
    for name in ("t1ce", "flair"):
        volume = files.array(name)
        low, high = np.percentile(volume[brain], (0.5, 99.7))
        grey = np.clip((volume - low) / max(high - low, 1e-9), 0, 1) * brain
        tiles = []
        for axis in range(3):
            place = int(np.argmax(after.sum(axis=tuple(a for a in range(3) if a != axis))))
            planes = [np.take(array, place, axis=axis) for array in (grey, before, after)]
            tiles.append(_tile(*(plane if axis == 0 else plane[::-1] for plane in planes)))
        rows.append(np.hstack(tiles))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new.png")
    matplotlib.image.imsave(beside, np.vstack(rows))
    beside.replace(path)


def _tile(grey: Plane, before: Plane, after: Plane) -> Plane:
    """One slice as RGB, scaled to fit a square tile."""
    zoom = TILE / max(grey.shape)
    picture = np.repeat(np.clip(ndimage.zoom(grey, zoom, order=1), 0, 1)[..., None], 3, axis=2)
    for plane, colour in ((before, AUTOMATIC), (after, FINAL)):
        region = ndimage.zoom(plane.astype(np.float32), zoom, order=1) > 0.5
        picture[region & ~ndimage.binary_erosion(region)] = colour
    tile = np.zeros((TILE, TILE, 3))
    height, width = picture.shape[:2]
    top, left = (TILE - height) // 2, (TILE - width) // 2
    tile[top : top + height, left : left + width] = picture[:TILE, :TILE]
    return tile
