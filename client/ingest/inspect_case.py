"""inspect_case: what a case's files say before anything is computed: headers only, no voxel is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel

from client.case import CaseRow
from client.image_files import UNREADABLE
from client.ingest.dicom.faults import refusal
from client.ingest.dicom.read_dicom import DicomFolders
from common.errors import InputError

__all__ = ["CaseLook", "ImageLook", "inspect_case"]


@dataclass(frozen=True)
class ImageLook:
    """One sequence.  confidence: of the identification, 1 where a person named it; size and spacing: columns, rows,
    slices.
    """

    source: Literal["dicom", "nifti"]
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    scanner: str = ""
    confidence: float = 1.0


@dataclass(frozen=True)
class CaseLook:
    """images by `t1ce` and `flair`; fault: why the case could not be prepared as it is, or None."""

    row: CaseRow
    images: dict[str, ImageLook]
    fault: InputError | None = None


def inspect_case(row: CaseRow, dicom: DicomFolders) -> CaseLook:
    """Look at both sequences and at the masks' existence; a fault is part of the answer, not an exception."""
    images: dict[str, ImageLook] = {}
    patients: set[Any] = set()
    try:
        for field, path, named in (
            ("t1ce_path", row.t1ce_path, row.t1ce_series),
            ("flair_path", row.flair_path, row.flair_series),
        ):
            if path and Path(path).is_dir():
                picked = dicom.pick(Path(path), field, named=named, case=row.pseudonym)
                series = picked.series
                patients.add(series.first.patient)
                sure = 1.0 if named else picked.identification.confidence
                images[field[:-5]] = ImageLook("dicom", series.size, series.spacing_mm, series.scanner, sure)
            else:
                images[field[:-5]] = _nifti(row, field, Path(path))
        if len(patients) > 1:
            raise refusal("patients-differ", case=row.pseudonym, field="flair_path")
        for field in ("mask_path", "brain_mask_path"):
            if getattr(row, field):
                _nifti(row, field, Path(getattr(row, field)))
    except InputError as error:
        error.case, error.field = row.pseudonym, error.field or "t1ce_path"
        return CaseLook(row, images, error)
    return CaseLook(row, images)


def _nifti(row: CaseRow, field: str, path: Path) -> ImageLook:
    code, problem, fix = "", "", "Check the path in the manifest."
    if not getattr(row, field):
        code, problem, fix = "sequence-missing", "A sequence is missing.", "Name its file, or exclude the case."
    elif not path.exists():
        code, problem = "file-missing", "A file is not there."
    elif path.stat().st_size == 0:
        code, problem, fix = "empty-file", "A file is empty.", "Export it again."
    else:
        try:
            header = nibabel.load(path).header
            shape, zooms = header.get_data_shape(), header.get_zooms()
        except UNREADABLE as error:
            code, problem, fix = "image-unreadable", "An image cannot be read.", "Export it again."
            raise InputError(
                code, case=row.pseudonym, field=field, problem=problem, fix=fix, local=type(error).__name__
            ) from None
        if len(shape) == 3:
            return ImageLook("nifti", tuple(map(int, shape)), tuple(float(z) for z in zooms[:3]))
        code, problem, fix = "image-not-3d", "An image is not one 3-D volume.", "Export one volume per sequence."
    raise InputError(code, case=row.pseudonym, field=field, problem=problem, fix=fix)
