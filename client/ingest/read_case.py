"""read_case: T1CE, FLAIR and masks of one case, checked before anything is computed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from client.case import Case, CaseRow
from client.image_files import UNREADABLE
from client.ingest.dicom.choose import Candidate
from client.ingest.dicom.faults import refusal
from client.ingest.dicom.read_dicom import DicomFolders
from common.errors import InputError

__all__ = ["has_finite_voxels", "input_fingerprint", "inputs_are_there", "read_case"]

TOLERANCE = 1e-3


def read_case(row: CaseRow, *, dicom: DicomFolders | None = None) -> Case:
    """Read from NIfTI files or DICOM folders; masks, where the manifest names them, lie on T1CE's grid.

    dicom: needed where a path is a folder.
    InputError: sequence-missing, file-missing, image-unreadable, image-not-3d, image-not-finite,
    same-image-twice, mask-empty, mask-not-binary, mask-other-grid; for DICOM the codes of
    `client.ingest.dicom.faults.REFUSALS`.
    """
    images: dict[str, sitk.Image] = {}
    picked: list[Candidate] = []
    for field, path, named in (
        ("t1ce_path", row.t1ce_path, row.t1ce_series),
        ("flair_path", row.flair_path, row.flair_series),
    ):
        if not path:
            raise _fault(
                row, field, "sequence-missing", "A sequence is missing.", "Name its file, or exclude the case."
            )
        if dicom is not None and Path(path).is_dir():
            picked.append(dicom.pick(Path(path), field, named=named, case=row.pseudonym))
            image = _said_of(row, field, dicom, picked[-1])
        else:
            image = _load_image(row, field, Path(path))
        images[field] = _as_one_volume(row, field, image)
    if len({candidate.series.first.patient for candidate in picked}) > 1:
        raise refusal("patients-differ", case=row.pseudonym, field="flair_path")
    t1ce, flair = images["t1ce_path"], images["flair_path"]
    if t1ce.GetSize() == flair.GetSize() and np.array_equal(
        sitk.GetArrayViewFromImage(t1ce), sitk.GetArrayViewFromImage(flair)
    ):
        raise _fault(
            row, "flair_path", "same-image-twice", "T1CE and FLAIR are the same image.", "Name the FLAIR series."
        )
    return Case(
        pseudonym=row.pseudonym,
        t1ce=t1ce,
        flair=flair,
        brain_mask=_read_mask(row, "brain_mask_path", row.brain_mask_path, t1ce),
        tumour_mask=_read_mask(row, "mask_path", row.mask_path, t1ce),
    )


def input_fingerprint(row: CaseRow) -> str:
    """SHA-256 over the bytes of every file the case is made of, and over the names of series that a person chose."""
    digest = hashlib.sha256(f"{row.t1ce_series}|{row.flair_series}|".strip("|").encode())
    for field in ("t1ce_path", "flair_path", "mask_path", "brain_mask_path"):
        path = getattr(row, field)
        digest.update(f"{field}:".encode())
        for file in _files(Path(path)) if path else ():
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def inputs_are_there(row: CaseRow) -> bool:
    """Whether every file that the manifest names exists."""
    return all(Path(p).exists() for p in (row.t1ce_path, row.flair_path, row.mask_path, row.brain_mask_path) if p)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.exists() else []


def _said_of(row: CaseRow, field: str, dicom: DicomFolders, picked: Candidate) -> sitk.Image:
    """The image; what is wrong with it names case and field."""
    try:
        return dicom.read(picked)
    except InputError as error:
        error.case, error.field = row.pseudonym, field
        raise


def _load_image(row: CaseRow, field: str, path: Path) -> sitk.Image:
    if not path.exists():
        raise _fault(row, field, "file-missing", "A file is not there.", "Check the path in the manifest.", path)
    try:
        finite = has_finite_voxels(path)
        image = sitk.ReadImage(str(path))
    except UNREADABLE as error:
        raise _fault(
            row,
            field,
            "image-unreadable",
            "An image cannot be read; it may be truncated.",
            "Export it again.",
            f"{path}: {type(error).__name__}: {error}",
        ) from None
    if not finite:
        raise _fault(row, field, "image-not-finite", "An image holds NaN or infinite voxels.", "Export it again.", path)
    return image


def _as_one_volume(row: CaseRow, field: str, image: sitk.Image) -> sitk.Image:
    """One 3-D image of finite values, as float32."""
    if image.GetDimension() != 3 or min(image.GetSize()) < 2 or image.GetNumberOfComponentsPerPixel() != 1:
        raise _fault(row, field, "image-not-3d", "An image is not one 3-D volume.", "Export one volume per sequence.")
    image = sitk.Cast(image, sitk.sitkFloat32)
    if not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
        raise _fault(row, field, "image-not-finite", "An image holds NaN or infinite voxels.", "Export it again.")
    return image


def has_finite_voxels(path: Path) -> bool:
    """Whether every voxel is a number; errors when the file is truncated.

    ITK reads NaN as 0 and a truncated .nii.gz as zeros, without a word: nibabel does not.
    """
    return bool(np.isfinite(np.asanyarray(nibabel.load(path).dataobj)).all())


def _read_mask(row: CaseRow, field: str, path: str, t1ce: sitk.Image) -> sitk.Image | None:
    """A binary mask on T1CE's grid, its axes turned to T1CE's."""
    if not path:
        return None
    image = _as_one_volume(row, field, _load_image(row, field, Path(path)))
    # A mask drawn on a converted copy may count its voxels from another corner: turned, never resampled.
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(t1ce.GetDirection())
    image = sitk.DICOMOrient(image, code)
    if image.GetSize() != t1ce.GetSize() or not all(
        np.allclose(ours, theirs, atol=TOLERANCE)
        for ours, theirs in (
            (image.GetSpacing(), t1ce.GetSpacing()),
            (image.GetOrigin(), t1ce.GetOrigin()),
            (image.GetDirection(), t1ce.GetDirection()),
        )
    ):
        raise _fault(
            row,
            field,
            "mask-other-grid",
            "A mask lies on another grid than T1CE.",
            "Resample it onto T1CE (size, spacing, origin, direction).",
            path,
        )
    values = np.unique(sitk.GetArrayViewFromImage(image))
    if not set(values.tolist()) <= {0.0, 1.0}:
        raise _fault(
            row,
            field,
            "mask-not-binary",
            "A mask holds other values than 0 and 1.",
            "Join the labels of the whole tumour (1, 2 and 4) into 1.",
            f"{path}: values {values[:6].tolist()}",
        )
    if len(values) == 1 and values[0] == 0:
        raise _fault(row, field, "mask-empty", "A mask is empty.", "Draw it, or leave the cell empty.", path)
    return sitk.Cast(image, sitk.sitkUInt8)


def _fault(row: CaseRow, field: str, code: str, problem: str, fix: str, local: Path | str = "") -> InputError:
    return InputError(code, case=row.pseudonym, field=field, problem=problem, fix=fix, local=str(local))
