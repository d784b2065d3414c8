"""case_picture: one picture per case for a radiologist's eye: three planes, both sequences, two outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from client.case import Case

__all__ = ["draw_case"]

TUMOUR, BRAIN = (1.0, 0.25, 0.2), (0.3, 0.65, 1.0)
PIXEL_MM = 0.75
TILE = 280


def draw_case(case: Case, path: Path) -> None:
    """Axial, coronal and sagittal slices through the tumour's middle, T1CE above, FLAIR below.

    Radiological convention: the patient's right is on the picture's left.  Brain blue, tumour red.
    """
    if case.brain_mask is None or case.tumour_mask is None:
        raise ValueError("a picture needs both masks")
    tumour = sitk.GetArrayFromImage(case.tumour_mask) > 0
    brain = sitk.GetArrayFromImage(case.brain_mask) > 0
    areas = [tumour.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    middle = [int(np.argmax(area)) for area in areas]
    spacing = case.t1ce.GetSpacing()[0]
    rows = [
        np.hstack(
            [_tile(sitk.GetArrayFromImage(image), brain, tumour, axis, middle[axis], spacing) for axis in range(3)]
        )
        for image in (case.t1ce, case.flair)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new.png")
    matplotlib.image.imsave(beside, np.vstack(rows))
    beside.replace(path)


def _tile(
    volume: np.ndarray[Any, Any],
    brain: np.ndarray[Any, Any],
    tumour: np.ndarray[Any, Any],
    axis: int,
    place: int,
    spacing_mm: float,
) -> np.ndarray[Any, Any]:
    """One slice as RGB on a tile of fixed size; LPS arrays rise to left, posterior, superior."""
    planes = [np.take(array, place, axis=axis) for array in (volume, brain, tumour)]
    if axis != 0:
        planes = [plane[::-1] for plane in planes]  # superior on top
    zoom = spacing_mm / PIXEL_MM
    low, high = np.percentile(volume[brain], (0.5, 99.7))
    grey = np.clip((ndimage.zoom(planes[0], zoom, order=1) - low) / (high - low), 0, 1)
    grey[ndimage.zoom(planes[1].astype(np.float32), zoom, order=1) <= 0.5] = 0  # z-scores outside are no signal
    picture = np.repeat(grey[..., None], 3, axis=2)
    for plane, colour in ((planes[1], BRAIN), (planes[2], TUMOUR)):
        region = ndimage.zoom(plane.astype(np.float32), zoom, order=1) > 0.5
        picture[region & ~ndimage.binary_erosion(region)] = colour
    return _centred(picture)


def _centred(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    tile = np.zeros((TILE, TILE, 3))
    height, width = (min(TILE, n) for n in picture.shape[:2])
    top, left = (TILE - height) // 2, (TILE - width) // 2
    up, aside = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    tile[top : top + height, left : left + width] = picture[up : up + height, aside : aside + width]
    return tile
