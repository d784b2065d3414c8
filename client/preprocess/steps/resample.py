"""resample: one interpolation from the native grids to the atlas grid."""

from __future__ import annotations

from typing import Literal

import SimpleITK as sitk

from client.case import Case, StepRecord

__all__ = ["resample"]

INTERPOLATORS = {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline}


def resample(
    case: Case,
    grid: sitk.Image,
    *,
    to_t1ce: sitk.Transform,
    to_flair: sitk.Transform,
    interpolator: Literal["linear", "bspline"],
) -> Case:
    """Every image through its composite transform (grid points -> native points), once.

    Masks lie on T1CE's native grid; they are interpolated linearly and cut at one half.
    """
    kind = INTERPOLATORS[interpolator]

    def mask(image: sitk.Image | None) -> sitk.Image | None:
        if image is None:
            return None
        soft = sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), grid, to_t1ce, sitk.sitkLinear, 0.0)
        return sitk.Cast(soft > 0.5, sitk.sitkUInt8)

    spacing = grid.GetSpacing()[0]
    return case.evolve(
        StepRecord(
            "resample",
            f"Both sequences were resampled once, to {spacing:g} mm cubic voxels, with {interpolator} interpolation.",
            (("spacing_mm", f"{spacing:g}"), ("interpolator", interpolator)),
        ),
        t1ce=sitk.Resample(case.t1ce, grid, to_t1ce, kind, 0.0),
        flair=sitk.Resample(case.flair, grid, to_flair, kind, 0.0),
        brain_mask=mask(case.brain_mask),
        tumour_mask=mask(case.tumour_mask),
        to_native=to_t1ce,
    )
