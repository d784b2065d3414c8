"""write_dicom: one image as a classic single-frame MR series with a complete geometry.

Names and numbers are invented; UIDs are derived from the pseudonym, so that a cohort is the same each time.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from simulation.cohort.scanner import Scanner

__all__ = ["STUDY_DATE", "patient_id", "write_series"]

STUDY_DATE = date(2020, 1, 1)

DESCRIPTIONS = {"t1ce": "AX T1 CE", "flair": "AX T2 FLAIR NAV"}


def patient_id(pseudonym: str) -> str:
    """The number under which the invented hospital knows the case."""
    return f"SYN-{pseudonym}"


def write_series(image: sitk.Image, folder: Path, *, scanner: Scanner, sequence: str, pseudonym: str) -> None:
    """Write one file per slice into `folder`; voxels and geometry are the image's own."""
    folder.mkdir(parents=True)
    slices = sitk.GetArrayFromImage(image)
    common = _series_header(image, scanner, sequence, pseudonym)
    for number, pixels in enumerate(slices):
        header = Dataset()
        header.update(common)
        header.SOPInstanceUID = generate_uid(entropy_srcs=[pseudonym, sequence, str(number)])
        header.file_meta = FileMetaDataset()
        header.file_meta.MediaStorageSOPClassUID = MRImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.InstanceNumber = number + 1
        position = image.TransformIndexToPhysicalPoint((0, 0, number))
        header.ImagePositionPatient = [f"{value:.6f}" for value in position]
        header.SliceLocation = f"{position[2]:.6f}"
        header.PixelData = pixels.astype(np.int16).tobytes()
        header.save_as(folder / f"{number + 1:04d}.dcm", enforce_file_format=True)


def _series_header(image: sitk.Image, scanner: Scanner, sequence: str, pseudonym: str) -> Dataset:
    columns, rows, _ = image.GetSize()
    spacing, direction = image.GetSpacing(), image.GetDirection()
    header = Dataset()
    header.SOPClassUID = MRImageStorage
    header.StudyInstanceUID = generate_uid(entropy_srcs=[pseudonym, "study"])
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[pseudonym, sequence])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=[pseudonym, "frame"])
    header.Modality = "MR"
    header.Manufacturer, header.ManufacturerModelName = scanner.manufacturer, scanner.model
    header.MagneticFieldStrength = "3"
    header.PatientName, header.PatientID = "SYNTHETIC^CASE", patient_id(pseudonym)
    header.PatientBirthDate = header.PatientSex = ""
    header.StudyDate, header.StudyTime = f"{STUDY_DATE:%Y%m%d}", "120000"
    header.AccessionNumber, header.StudyID = "", "1"
    header.ReferringPhysicianName = header.PositionReferenceIndicator = header.Laterality = ""
    header.SeriesNumber = "1" if sequence == "flair" else "2"
    header.SeriesDescription = DESCRIPTIONS[sequence]
    header.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    header.ScanningSequence = "IR" if sequence == "flair" else "SE"
    header.SequenceVariant, header.ScanOptions, header.MRAcquisitionType = "SK", "", "2D"
    header.EchoTime, header.RepetitionTime, header.EchoTrainLength = "9", "780", "1"
    header.SliceThickness = header.SpacingBetweenSlices = f"{spacing[2]:.6f}"
    header.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
    header.ImageOrientationPatient = [f"{direction[i]:.6f}" for i in (0, 3, 6, 1, 4, 7)]
    header.Rows, header.Columns, header.SamplesPerPixel = rows, columns, 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    return header
