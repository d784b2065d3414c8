"""roi: the region of interest of a mask: its bounding box, and why a mask cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError

__all__ = ["Roi", "find_roi"]


@dataclass(frozen=True, eq=False)
class Roi:
    """box: of the mask, slices z y x; inside: (z, y, x) of the box, True in the ROI."""

    box: tuple[slice, slice, slice]
    inside: NDArray[np.bool_]


def find_roi(mask: NDArray[Any], *, label: int | None = None, fewest_dimensions: int = 2) -> Roi:
    """The voxels of `label`, or of the mask's only label.

    fewest_dimensions: along how many axes the ROI must be longer than one voxel (PyRadiomics:
        minimumROIDimensions).
    InputError `roi-empty`, `mask-several-labels`, `roi-one-voxel` or `roi-too-flat`.
    """
    chosen = mask if label is None else mask == label
    if mask.ndim != 3:
        raise _refuse("mask-not-3d", f"The mask has {mask.ndim} dimensions.", "Give one three-dimensional mask.")
    box = _bounding_box(chosen)
    if box is None:
        where = "" if label is None else f" of label {label}"
        raise _refuse("roi-empty", f"The mask has no voxel{where}.", "Segment the tumour, or name another label.")
    part = chosen[box]
    if label is None:
        labels = np.unique(part[part != 0])
        if len(labels) > 1:
            named = ", ".join(f"{value:g}" for value in labels[:8])
            raise _refuse(
                "mask-several-labels",
                f"The mask holds several labels: {named}.",
                "Name one (`--label 1`), or take all together as the whole tumour (`--label any`).",
            )
    longer = sum(axis.stop - axis.start > 1 for axis in box)
    if longer == 0:
        raise _refuse("roi-one-voxel", "The mask has a single voxel, which has no features.", "Check the segmentation.")
    if longer < fewest_dimensions:
        raise _refuse(
            "roi-too-flat",
            f"The mask extends along {longer} axis or axes; {fewest_dimensions} are needed.",
            "Check the segmentation, or lower minimumROIDimensions.",
        )
    return Roi(box, part != 0)


def _bounding_box(mask: NDArray[Any]) -> tuple[slice, slice, slice] | None:
    """Axis by axis inside what is left, so that most of the image is read once only."""
    if mask.dtype == np.bool_:
        mask = mask.view(np.uint8)
    box = [slice(None)] * 3
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        part = mask[tuple(box)]
        # Largest and smallest instead of `!= 0`: no temporary of the size of the image.
        filled = np.flatnonzero((part.max(axis=others) != 0) | (part.min(axis=others) != 0))
        if not len(filled):
            return None
        box[axis] = slice(int(filled[0]), int(filled[-1]) + 1)
    return box[0], box[1], box[2]


def _refuse(code: str, problem: str, fix: str) -> InputError:
    return InputError(code, field="mask", problem=problem, fix=fix)
