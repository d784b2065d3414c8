"""native: masks between the analysis grid and the native T1CE series, and the series' own geometry.

What a reader changed in native space is carried over as a change, so that an untouched mask comes back untouched
although two interpolations lie between.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from common.errors import InputError

__all__ = ["apply_native_edit", "native_grid", "read_series", "to_native"]


def to_native(mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """The mask on the native grid, by nearest neighbour; transform: analysis points -> native points."""
    return sitk.Resample(mask, grid, transform.GetInverse(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)


def apply_native_edit(base: sitk.Image, edited: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """The base mask (analysis grid) with every voxel changed that `edited` (native grid) changed.

    An `edited` equal to the base's own native copy gives the base, voxel by voxel.
    """
    grid = sitk.Image(edited.GetSize(), sitk.sitkUInt8)
    grid.CopyInformation(edited)
    before = to_native(base, grid, transform)
    added, removed = edited > before, before > edited
    fine = [
        sitk.Resample(part, base, transform, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8) for part in (added, removed)
    ]
    return sitk.Cast(sitk.And(sitk.Or(base > 0, fine[0] > 0), sitk.Not(fine[1] > 0)), sitk.sitkUInt8)


def read_series(files: Sequence[Path], *, pseudonym: str) -> list[Dataset]:
    """The images of one series, sorted along the slices; InputError where the files are not one DICOM series."""
    try:
        datasets = [pydicom.dcmread(file) for file in files]
    except (pydicom.errors.InvalidDicomError, OSError):
        datasets = []
    series = {str(d.get("SeriesInstanceUID", "")) for d in datasets}
    if len(series) != 1 or not all("PixelData" in d for d in datasets):
        raise InputError(
            "native-not-dicom",
            case=pseudonym,
            field="t1ce_path",
            problem="The T1CE of the case is not one DICOM series.",
            fix="DICOM objects can only refer to DICOM images; use NIfTI masks for this case.",
            local=f"{len(files)} files of {len(series)} series",
        )
    if len(datasets) > 1:
        row, column = (np.array(datasets[0].ImageOrientationPatient[i : i + 3], float) for i in (0, 3))
        normal = np.cross(row, column)
        datasets.sort(key=lambda d: float(normal @ np.array(d.ImagePositionPatient, float)))
    return datasets


def native_grid(datasets: Sequence[Dataset], *, pseudonym: str) -> sitk.Image:
    """An empty image with the series' geometry; its z axis goes from slice to slice."""
    try:
        if len(datasets) == 1:
            volume = highdicom.Image.from_dataset(datasets[0]).get_volume()
        else:
            volume = highdicom.get_volume_from_series(list(datasets))
    except (RuntimeError, ValueError, AttributeError) as error:
        raise InputError(
            "native-irregular",
            case=pseudonym,
            field="t1ce_path",
            problem="The slices of the T1CE series do not form one regular volume.",
            fix="Use NIfTI masks for this case.",
            local=str(error),
        ) from None
    # highdicom counts slice, row, column; ITK's images go column, row, slice.
    return sitk.PermuteAxes(sitk.Cast(volume.to_simpleitk(), sitk.sitkUInt8) * 0, [2, 1, 0])
