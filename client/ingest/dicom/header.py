"""header: what one DICOM file says of its place in space and of its sequence, read without its pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from client.ingest.dicom.quiet import quiet

__all__ = ["DAMAGED", "Frame", "Header", "read_header"]

DAMAGED = (
    *(InvalidDicomError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, struct.error),
    *(ArithmeticError, RuntimeError),
)
"""What pydicom raises for a damaged file, by where the damage lies: at once, or when a value is asked for."""

TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "SequenceName",
    "PulseSequenceName",
    "Modality",
    "ImageType",
    "Manufacturer",
    "ManufacturerModelName",
    "MagneticFieldStrength",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "InstanceNumber",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "ScanningSequence",
    "SequenceVariant",
    "MRAcquisitionType",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "BurnedInAnnotation",
    "NumberOfFrames",
    "ImagesInAcquisition",
    "SamplesPerPixel",
    "BitsAllocated",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DiffusionBValue",
]

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """One slice in space: position of its first voxel and directions of rows and columns, mm, LPS."""

    position: Vector
    orientation: Vector
    pixel_spacing_mm: Vector


@dataclass(frozen=True, repr=False)
class Header:
    """One file.  Names, dates and texts in it are the patient's: they stay in memory and out of every output.

    patient: ID, name, date of birth; frames: one for a classic file, several for an enhanced one, none where the
    geometry is missing.
    """

    path: Path
    patient: tuple[str, str, str]
    sex: str
    study_date: date | None
    study_uid: str
    series_uid: str
    frame_of_reference: str
    instance_uid: str
    class_uid: str
    transfer_syntax: str
    modality: str
    image_type: tuple[str, ...]
    series_number: int
    description: str
    protocol_name: str
    sequence_name: str
    scanning_sequence: tuple[str, ...]
    acquisition_type: str
    manufacturer: str
    model: str
    field_strength_t: float | None
    echo_number: int | None
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    contrast_agent: str
    diffusion: bool
    burned_in: bool
    instance_number: int | None
    acquisition_number: int | None
    temporal_position: int | None
    images_in_acquisition: int | None
    size: tuple[int, int]
    samples_per_pixel: int
    frames: tuple[Frame, ...]
    enhanced: bool

    def __repr__(self) -> str:
        return f"Header({len(self.frames)} frame(s))"

    @property
    def age_years(self) -> int | None:
        """Whole years at the study; 90 stands for all above 89, whose age alone may name them (HIPAA)."""
        born = _date(self.patient[2])
        if born is None or self.study_date is None or born > self.study_date:
            return None
        years = self.study_date.year - born.year
        return min(90, years - ((self.study_date.month, self.study_date.day) < (born.month, born.day)))


def read_header(path: Path) -> Header | str:
    """The header, or the code of why the file is none of ours: empty-file, not-dicom, unreadable-dicom, dicomdir."""
    try:
        if path.stat().st_size == 0:
            return "empty-file"
        with quiet():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
            if dataset.file_meta.get("MediaStorageSOPClassUID") == "1.2.840.10008.1.3.10":
                return "dicomdir"
            header = _header(path, dataset)
    except InvalidDicomError:
        return "not-dicom"
    # A fault of ours would show in every file.
    except DAMAGED:
        return "unreadable-dicom"
    # A file that was cut off within its header reads without an error.
    return header if header.series_uid and header.instance_uid and header.class_uid else "unreadable-dicom"


def _header(path: Path, dataset: Dataset) -> Header:
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    per_frame = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    groups = (per_frame[0] if per_frame else Dataset(), shared, dataset)
    timing, echo, sequence = (
        _group(groups, name)
        for name in ("MRTimingAndRelatedParametersSequence", "MREchoSequence", "MRModifierSequence")
    )
    return Header(
        path=path,
        patient=(_text(dataset, "PatientID"), _text(dataset, "PatientName"), _text(dataset, "PatientBirthDate")),
        sex={"M": "male", "F": "female"}.get(_text(dataset, "PatientSex").upper(), ""),
        study_date=_date(_text(dataset, "StudyDate")),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        instance_uid=_text(dataset, "SOPInstanceUID"),
        class_uid=_text(dataset, "SOPClassUID"),
        transfer_syntax=str(dataset.file_meta.get("TransferSyntaxUID", "")),
        modality=_text(dataset, "Modality"),
        image_type=_words(dataset, "ImageType"),
        series_number=_integer(dataset, "SeriesNumber") or 0,
        description=_text(dataset, "SeriesDescription"),
        protocol_name=_text(dataset, "ProtocolName"),
        sequence_name=f"{_text(dataset, 'SequenceName')} {_text(dataset, 'PulseSequenceName')}".strip(),
        scanning_sequence=_words(dataset, "ScanningSequence"),
        acquisition_type=_text(dataset, "MRAcquisitionType"),
        manufacturer=_text(dataset, "Manufacturer"),
        model=_text(dataset, "ManufacturerModelName"),
        field_strength_t=_number(dataset, "MagneticFieldStrength"),
        echo_number=_integer(dataset, "EchoNumbers"),
        echo_time_ms=_either(_number(dataset, "EchoTime"), _number(echo, "EffectiveEchoTime")),
        repetition_time_ms=_either(_number(dataset, "RepetitionTime"), _number(timing, "RepetitionTime")),
        inversion_time_ms=_either(_number(dataset, "InversionTime"), _number(sequence, "InversionTimes")),
        contrast_agent=_contrast(dataset),
        diffusion="DiffusionBValue" in dataset or "MRDiffusionSequence" in groups[0],
        burned_in=_text(dataset, "BurnedInAnnotation").upper() == "YES",
        instance_number=_integer(dataset, "InstanceNumber"),
        acquisition_number=_integer(dataset, "AcquisitionNumber"),
        temporal_position=_integer(dataset, "TemporalPositionIdentifier"),
        images_in_acquisition=_integer(dataset, "ImagesInAcquisition"),
        size=(_integer(dataset, "Rows") or 0, _integer(dataset, "Columns") or 0),
        samples_per_pixel=_integer(dataset, "SamplesPerPixel") or 1,
        frames=_frames(dataset, shared, per_frame),
        enhanced=bool(per_frame),
    )


def _frames(dataset: Dataset, shared: Dataset, per_frame: list[Dataset]) -> tuple[Frame, ...]:
    """Geometry of every frame; none at all when one of them lacks it."""
    found = []
    for own in per_frame or [dataset]:
        groups = (own, shared, dataset)
        measures = _group(groups, "PixelMeasuresSequence") if per_frame else dataset
        plane = _group(groups, "PlaneOrientationSequence") if per_frame else dataset
        place = _group(groups, "PlanePositionSequence") if per_frame else dataset
        frame = Frame(
            position=_vector(place, "ImagePositionPatient", 3),
            orientation=_vector(plane, "ImageOrientationPatient", 6),
            pixel_spacing_mm=_vector(measures, "PixelSpacing", 2),
        )
        if not (frame.position and frame.orientation and frame.pixel_spacing_mm):
            return ()
        found.append(frame)
    return tuple(found)


def _first(dataset: Dataset, name: str) -> Dataset:
    items = dataset.get(name)
    return items[0] if items else Dataset()


def _group(groups: tuple[Dataset, ...], name: str) -> Dataset:
    """The functional group where it stands: with the frame, shared by all, or nowhere."""
    return next((group[name][0] for group in groups if group.get(name)), Dataset())


def _text(dataset: Dataset, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip()


def _words(dataset: Dataset, name: str) -> tuple[str, ...]:
    value: Any = dataset.get(name)
    if value is None or value == "":
        return ()
    return (value.upper(),) if isinstance(value, str) else tuple(str(part).upper() for part in value)


def _number(dataset: Dataset, name: str) -> float | None:
    value: Any = dataset.get(name)
    if value is None or value == "":
        return None
    number = float(value if isinstance(value, str | int | float) else value[0])
    return number if np.isfinite(number) else None


def _integer(dataset: Dataset, name: str) -> int | None:
    number = _number(dataset, name)
    return None if number is None else round(number)


def _vector(dataset: Dataset, name: str, length: int) -> Vector:
    value: Any = dataset.get(name)
    numbers = () if value is None or value == "" else tuple(float(part) for part in value)
    return numbers if len(numbers) == length and np.isfinite(numbers).all() else ()


def _either(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _contrast(dataset: Dataset) -> str:
    """The agent's name, or that a sequence names one; empty when the scanner noted none."""
    return _text(dataset, "ContrastBolusAgent") or ("coded" if dataset.get("ContrastBolusAgentSequence") else "")


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()
    except ValueError:
        return None
