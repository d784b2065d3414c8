"""brain: a brain mask without learned weights: the atlas' own, refined by what the image shows.

Within a band around the warped mask a voxel stays when its T1CE intensity is brain-like and it hangs
together with the core; dark liquor and bone and bright scalp fall away.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from client.case import Case, StepRecord

__all__ = ["find_brain", "keep_given_brain"]

CORE_MM, GROW_MM = 7.0, 4.0


def find_brain(case: Case, atlas_mask: sitk.Image) -> Case:
    """`atlas_mask` lies on the case's grid."""
    t1ce = sitk.GetArrayFromImage(case.t1ce)
    warped = sitk.GetArrayFromImage(atlas_mask) > 0
    spacing = case.t1ce.GetSpacing()[::-1]
    depth = ndimage.distance_transform_edt(warped, sampling=spacing)
    height = ndimage.distance_transform_edt(~warped, sampling=spacing)
    core = depth > CORE_MM
    middle = np.median(t1ce[core])
    spread = 1.4826 * np.median(np.abs(t1ce[core] - middle))
    brain_like = (t1ce > middle - 3.0 * spread) & (t1ce < middle + 4.0 * spread)
    candidate = core | ((height <= GROW_MM) & brain_like)
    ball = _ball(2.0, spacing)
    kept = ndimage.binary_opening(candidate, ball) | core
    kept = _piece_with(kept, core)
    closed = ndimage.binary_closing(np.pad(kept, 4), _ball(4.0, spacing))[4:-4, 4:-4, 4:-4]
    mask = sitk.GetImageFromArray(ndimage.binary_fill_holes(closed).astype(np.uint8))
    mask.CopyInformation(case.t1ce)
    return case.evolve(
        StepRecord("brain", "The brain mask was the atlas mask, refined by T1CE intensity within 4 mm."),
        brain_mask=mask,
    )


def keep_given_brain(case: Case) -> Case:
    """The mask that the site brought (HD-BET, SynthStrip, by hand)."""
    return case.evolve(StepRecord("brain", "The brain mask was supplied by the site."))


def _piece_with(mask: np.ndarray, core: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(labels == np.bincount(labels[core]).argmax())


def _ball(radius_mm: float, spacing: tuple[float, ...]) -> np.ndarray:
    reach = [max(1, round(radius_mm / s)) for s in spacing]
    axes = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    return np.asarray(sum((a * s) ** 2 for a, s in zip(axes, spacing, strict=True)) <= (radius_mm + 0.01) ** 2)
