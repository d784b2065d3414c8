"""reorient: bring both sequences to the LPS axis order, without touching a voxel's value or place."""

from __future__ import annotations

import SimpleITK as sitk

from client.case import Case, StepRecord

__all__ = ["reorient"]


def reorient(case: Case) -> Case:
    """Permute and flip axes; physical positions stay."""
    return case.evolve(
        StepRecord("reorient", "Images were brought to LPS orientation."),
        t1ce=_turn(case.t1ce),
        flair=_turn(case.flair),
        brain_mask=_turn(case.brain_mask),
        tumour_mask=_turn(case.tumour_mask),
    )


def _turn(image: sitk.Image | None) -> sitk.Image | None:
    return None if image is None else sitk.DICOMOrient(image, "LPS")
