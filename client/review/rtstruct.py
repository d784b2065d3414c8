"""rtstruct: one region of an RT Structure Set as a mask on the native grid.

Own code, because the kept reader (rt-utils) brings OpenCV and loses holes.  On one slice the polygons are combined
by exclusive or, as the type CLOSEDPLANAR_XOR asks for: a contour inside another one is a hole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset

from common.errors import InputError

__all__ = ["read_structure"]

ON_A_SLICE = 0.1
"""Of a slice distance: contours that lie further from every slice were drawn on another series."""


def read_structure(found: Dataset, grid: sitk.Image, *, frame: str, region: str, pseudonym: str) -> sitk.Image:
    """The region called `region` (or the only one) on the native grid; a voxel counts if its centre lies within.

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
    for roi in found.get("ROIContourSequence", []):
        if int(roi.ReferencedROINumber) == chosen[0]:
            for contour in roi.get("ContourSequence", []):
                _draw(contour, grid, array, pseudonym)
    mask = sitk.GetImageFromArray(array.astype(np.uint8))
    mask.CopyInformation(grid)
    return mask


def _draw(contour: Dataset, grid: sitk.Image, array: np.ndarray[Any, Any], pseudonym: str) -> None:
    """Turn the voxels inside one contour over."""
    if contour.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
        raise _fault("rtstruct-open-contour", pseudonym, "A contour is not a closed polygon.")
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    places = np.array([grid.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])
    number = round(float(places[:, 2].mean()))
    if np.abs(places[:, 2] - number).max() > ON_A_SLICE or not 0 <= number < array.shape[0]:
        raise _fault("rtstruct-other-series", pseudonym, "A contour does not lie on a slice of T1CE.")
    rows, columns = array.shape[1:]
    centres = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    inside = Outline(places[:, :2], closed=False).contains_points(centres)
    array[number] ^= inside.reshape(rows, columns)


def _fault(code: str, pseudonym: str, problem: str, local: str = "") -> InputError:
    fix = "Export closed contours of one region, drawn on the T1CE series."
    return InputError(code, case=pseudonym, field="RTSTRUCT", problem=problem, fix=fix, local=local)
