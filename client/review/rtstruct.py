"""rtstruct: one region of an RT Structure Set as a mask on the native grid.

Own code, because the kept reader (rt-utils) brings OpenCV and is weak on holes (METHOD section 6).  On one slice a
contour inside another one is a hole.  Programs that trace masks put contours through the centres of the border
pixels, which belong to the region: such a centre counts as inside an outer contour and as outside a hole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset

from common.errors import InputError

__all__ = ["read_structure"]

Points = np.ndarray[Any, np.dtype[np.float64]]

ON_THE_LINE = 1e-3
"""Of a voxel: contours are written with few decimals."""
ON_A_SLICE = 0.1
"""Of a slice distance: contours that lie further from every slice were drawn on another series."""


def read_structure(found: Dataset, grid: sitk.Image, *, frame: str, region: str, pseudonym: str) -> sitk.Image:
    """The region called `region` (or the only one) on the native grid; a voxel counts if its centre does.

    InputError: rtstruct-other-series, rtstruct-region (missing or not the only one), rtstruct-open-contour.
    """
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in found.get("StructureSetROISequence", [])}
    frames = {str(roi.get("ReferencedFrameOfReferenceUID", "")) for roi in found.get("StructureSetROISequence", [])}
    if frames != {frame}:
        raise _fault("rtstruct-other-series", pseudonym, "The structures lie in another frame of reference.")
    chosen = [n for n, name in names.items() if name == region] if region else list(names)
    if len(chosen) != 1:
        text = "The structure set does not hold exactly one region of that name."
        raise _fault("rtstruct-region", pseudonym, text, f"it holds {sorted(names.values())}")
    array = np.zeros(grid.GetSize()[::-1], bool)
    for number, outlines in _by_slice(found, chosen[0], grid, pseudonym).items():
        array[number] = _fill(outlines, array.shape[1:])
    mask = sitk.GetImageFromArray(array.astype(np.uint8))
    mask.CopyInformation(grid)
    return mask


def _by_slice(found: Dataset, roi_number: int, grid: sitk.Image, pseudonym: str) -> dict[int, list[Points]]:
    """Closed outlines in voxel units, counter-clockwise, by slice."""
    outlines: dict[int, list[Points]] = {}
    contours = [
        contour
        for roi in found.get("ROIContourSequence", [])
        if int(roi.ReferencedROINumber) == roi_number
        for contour in roi.get("ContourSequence", [])
    ]
    for contour in contours:
        if contour.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
            raise _fault("rtstruct-open-contour", pseudonym, "A contour is not a closed polygon.")
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        places = np.array([grid.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])
        number = round(float(places[:, 2].mean()))
        if np.abs(places[:, 2] - number).max() > ON_A_SLICE or not 0 <= number < grid.GetSize()[2]:
            raise _fault("rtstruct-other-series", pseudonym, "A contour does not lie on a slice of T1CE.")
        flat = places[:, :2]
        outlines.setdefault(number, []).append(flat if _area(flat) >= 0 else flat[::-1])
    return outlines


def _fill(outlines: list[Points], shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Large outlines first; one that begins inside an odd number of larger ones is a hole."""
    centres = np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), axis=-1).reshape(-1, 2)
    filled = np.zeros(len(centres), bool)
    ordered = sorted(outlines, key=_area, reverse=True)
    for place, outline in enumerate(ordered):
        around = sum(Outline(larger).contains_point(outline[0]) for larger in ordered[:place])
        if around % 2:
            filled &= ~Outline(_closed(outline)).contains_points(centres, radius=-ON_THE_LINE)
        else:
            filled |= Outline(_closed(outline)).contains_points(centres, radius=ON_THE_LINE)
    return filled.reshape(shape)


def _closed(outline: Points) -> Points:
    return np.vstack([outline, outline[:1]])


def _area(outline: Points) -> float:
    """Of a polygon, positive where it runs counter-clockwise."""
    x, y = outline.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _fault(code: str, pseudonym: str, problem: str, local: str = "") -> InputError:
    fix = "Export closed contours of one region, drawn on the T1CE series."
    return InputError(code, case=pseudonym, field="RTSTRUCT", problem=problem, fix=fix, local=local)
