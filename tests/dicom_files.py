"""dicom_files: small MR series for tests, made of numbers; each fault is one change to a good series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

__all__ = ["AXIAL", "OBLIQUE", "SAGITTAL", "good_slices", "save", "write_enhanced", "write_series"]

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
OBLIQUE = ((0.96592583, 0.25881905, 0.0), (-0.24999999, 0.93301270, 0.25881905))
T1CE: dict[str, Any] = {
    "SeriesDescription": "Ax T1 +C", "SeriesNumber": 5, "EchoTime": 9, "RepetitionTime": 600, "ScanningSequence": "SE",
    "ContrastBolusAgent": "Gadovist",
}  # fmt: skip
FLAIR: dict[str, Any] = {
    "SeriesDescription": "Ax T2 FLAIR", "SeriesNumber": 3, "EchoTime": 120, "RepetitionTime": 9000,
    "InversionTime": 2500, "ScanningSequence": ["SE", "IR"],
}  # fmt: skip


def good_slices(
    kind: str = "t1ce",
    *,
    patient: str = "P1",
    count: int = 6,
    axes: tuple[Any, Any] = AXIAL,
    step_mm: float = 3.0,
    seed: int = 0,
    **tags: Any,
) -> list[Dataset]:
    """`count` slices of 12 x 10 voxels at 0.9 x 0.8 mm; their numbers are their places."""
    rng = np.random.default_rng([seed, kind == "t1ce"])
    rows, columns = np.array(axes[0]), np.array(axes[1])
    normal = np.cross(rows, columns)
    slices = []
    for i in range(count):
        ds = _common(kind, patient, seed)
        for name, value in tags.items():
            setattr(ds, name, value)
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[patient, kind, str(seed), str(i)])
        ds.InstanceNumber = i + 1
        ds.ImageOrientationPatient = [f"{v:.8f}" for v in (*rows, *columns)]
        ds.ImagePositionPatient = [f"{v:.6f}" for v in np.array([-20.0, -30.0, 10.0]) + i * step_mm * normal]
        ds.PixelData = rng.integers(0, 1500, (12, 10)).astype(np.int16).tobytes()
        slices.append(ds)
    return slices


def _common(kind: str, patient: str, seed: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = MRImageStorage
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[patient, "study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, kind, str(seed)])
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=[patient, "frame"])
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "MR", "SIEMENS", "Prisma"
    ds.MagneticFieldStrength = 3
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = patient, f"{patient}^Test", "19700301", "F"
    ds.StudyDate, ds.StudyTime = "20240601", "101500"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    ds.MRAcquisitionType = "2D"
    ds.SequenceVariant, ds.ScanOptions = "SK", ""
    ds.SliceThickness = ds.SpacingBetweenSlices = 3
    ds.PixelSpacing = [0.8, 0.9]
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 12, 10, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    for name, value in (T1CE if kind == "t1ce" else FLAIR).items():
        setattr(ds, name, value)
    return ds


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write one file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax != ExplicitVRLittleEndian:
        ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)


def write_series(
    folder: Path,
    kind: str = "t1ce",
    *,
    edit: Callable[[list[Dataset]], list[Dataset]] = lambda slices: slices,
    syntax: str = ExplicitVRLittleEndian,
    **options: Any,
) -> list[Dataset]:
    """Write a series, changed by `edit`; returns what was written."""
    slices = edit(good_slices(kind, **options))
    for i, ds in enumerate(slices):
        save(ds, folder / f"{kind}-{options.get('seed', 0)}-{i:03d}", syntax)
    return slices


def write_enhanced(path: Path, kind: str = "t1ce", *, order: list[int] | None = None, **options: Any) -> np.ndarray:
    """The same volume as one enhanced file, its frames in `order`; returns the voxels by place."""
    slices = good_slices(kind, **options)
    ds = _common(kind, options.get("patient", "P1"), options.get("seed", 0))
    ds.SOPClassUID, ds.SOPInstanceUID = EnhancedMRImageStorage, generate_uid(entropy_srcs=[str(path.name)])
    ds.NumberOfFrames = len(slices)
    for name in ("EchoTime", "RepetitionTime", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
        if name in ds and name.endswith("Time"):
            continue
        if name in ds:
            delattr(ds, name)
    ds.SharedFunctionalGroupsSequence = [_groups(slices[0].ImageOrientationPatient)]
    order = order or list(range(len(slices)))
    frames = []
    for number, place in enumerate(order, start=1):
        frame = Dataset()
        position, content = Dataset(), Dataset()
        position.ImagePositionPatient = slices[place].ImagePositionPatient
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", place + 1, [1, place + 1]
        content.TemporalPositionIndex, content.FrameAcquisitionNumber = 1, number
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.DimensionIndexSequence = [_index(0x00209056), _index(0x00209057)]
    ds.PixelData = b"".join(slices[place].PixelData for place in order)
    save(ds, path)
    return np.stack([np.frombuffer(s.PixelData, np.int16).reshape(12, 10) for s in slices])


def _groups(orientation: Any) -> Dataset:
    groups, pixel, plane, scale = Dataset(), Dataset(), Dataset(), Dataset()
    pixel.PixelSpacing, pixel.SliceThickness, pixel.SpacingBetweenSlices = [0.8, 0.9], 3, 3
    plane.ImageOrientationPatient = orientation
    scale.RescaleIntercept, scale.RescaleSlope, scale.RescaleType = 0, 1, "US"
    groups.PixelMeasuresSequence, groups.PlaneOrientationSequence = [pixel], [plane]
    groups.PixelValueTransformationSequence = [scale]
    return groups


def _index(pointer: int) -> Dataset:
    index = Dataset()
    index.DimensionOrganizationUID = "1.2.3"
    index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, 0x00209111
    return index
