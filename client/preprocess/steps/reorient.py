"""reorient: bring both sequences to the LPS axis order, without touching a voxel's value or place."""

from __future__ import annotations

import SimpleITK as sitk

from client.case import Case, StepRecord

__all__ = ["reorient"]


def reorient(case: Case) -> Case:
    """Permute and flip axes; physical positions stay."""
    turn = lambda image: None if image is None else sitk.DICOMOrient(image, "LPS")  # noqa: E731  # four times the same
    return case.evolve(
        StepRecord("reorient", "Images were brought to LPS orientation."),
        t1ce=turn(case.t1ce),
        flair=turn(case.flair),
        brain_mask=turn(case.brain_mask),
        tumour_mask=turn(case.tumour_mask),
    )
