"""dicom_seg: a mask as a DICOM Segmentation of the native series, and back (highdicom; Bridge et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from common.errors import InputError

__all__ = ["read_segmentation", "write_segmentation"]


def write_segmentation(mask: sitk.Image, sources: Sequence[Dataset], path: Path, *, version: str, reader: str) -> None:
    """One binary segment on the grid of `sources` (native.native_grid); only its own slices are stored.

    The object belongs to the patient's study, as the series does: it holds what their headers hold.
    """
    frame = sources[0].FrameOfReferenceUID
    slices_first = sitk.PermuteAxes(mask, [2, 1, 0])
    grid = highdicom.Volume.from_simpleitk(slices_first, coordinate_system="PATIENT", frame_of_reference_uid=frame)
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Whole tumour with oedema",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="fedmidline whole tumour", family=codes.DCM.ArtificialIntelligence, version=version
        ),
        anatomic_regions=[codes.SCT.Brain],
    )
    made = highdicom.seg.Segmentation(
        source_images=list(sources),
        pixel_array=grid.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=generate_uid(),
        series_number=900,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="fedmidline",
        manufacturer_model_name="fedmidline-site review",
        software_versions=version,
        device_serial_number="0",
        content_label="WHOLETUMOUR",
        content_creator_name=reader,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".new-{path.name}")
    made.save_as(beside)
    beside.replace(path)


def read_segmentation(found: Dataset, sources: Sequence[Dataset], grid: sitk.Image, *, pseudonym: str) -> sitk.Image:
    """The segmentation's only segment on the native grid.

    InputError: seg-other-series (it does not refer to these images), seg-many-segments, seg-other-grid.
    """
    _require_these(found, sources, pseudonym)
    try:
        segmentation = highdicom.seg.Segmentation.from_dataset(found)
        if segmentation.number_of_segments != 1:
            raise _fault("seg-many-segments", pseudonym, "The segmentation holds more than one segment.", "Join them.")
        volume = segmentation.get_volume(combine_segments=True, dtype=np.uint8, skip_overlap_checks=True)
        image = volume.to_simpleitk()
    except (ValueError, AttributeError, RuntimeError, TypeError) as error:
        raise _fault(
            "seg-unreadable", pseudonym, "The segmentation cannot be read.", "Export it again.", error
        ) from None
    placed = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    # Every voxel must have found its own place: another slice distance or pixel size loses or doubles some.
    if (sitk.GetArrayViewFromImage(placed) > 0).sum() != (sitk.GetArrayViewFromImage(image) > 0).sum():
        raise _fault(
            "seg-other-grid",
            pseudonym,
            "The segmentation does not lie on the pixels of T1CE.",
            "Draw it on the T1CE series itself, without resampling.",
        )
    return placed


def _require_these(found: Dataset, sources: Sequence[Dataset], pseudonym: str) -> None:
    """The same frame of reference, and every image it names is one of ours."""
    ours = {str(source.SOPInstanceUID) for source in sources}
    named = {
        str(image.ReferencedSOPInstanceUID)
        for series in found.get("ReferencedSeriesSequence", [])
        for image in series.get("ReferencedInstanceSequence", [])
    }
    same_space: Any = found.get("FrameOfReferenceUID") == sources[0].get("FrameOfReferenceUID")
    if not same_space or not named or not named <= ours:
        raise _fault(
            "seg-other-series",
            pseudonym,
            "The segmentation refers to other images than the case's T1CE.",
            "Give the one that was drawn on this series.",
        )


def _fault(code: str, pseudonym: str, problem: str, fix: str, local: object = "") -> InputError:
    return InputError(code, case=pseudonym, field="DICOM SEG", problem=problem, fix=fix, local=str(local))
