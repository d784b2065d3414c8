"""quality: numbers that tell whether a preparation can be believed."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from common.errors import InputError

__all__ = ["brain_volume_ml", "edge_agreement", "require_same_head"]

SMALLEST_AGREEMENT = 0.35
"""Measured on the synthetic cohort and the real case of shared/data: FLAIR and T1CE of one head agree by more
than this after registration, of two heads by less (docs/decisions/0003-same-head.md)."""


def edge_agreement(t1ce: sitk.Image, flair: sitk.Image, mask: sitk.Image) -> float:
    """Correlation of the two sequences' edge maps inside the brain: contrasts differ, anatomy does not."""
    inside = sitk.GetArrayViewFromImage(mask) > 0
    edges = [ndimage.gaussian_gradient_magnitude(sitk.GetArrayFromImage(image), 1.0)[inside] for image in (t1ce, flair)]
    ranks = [np.argsort(np.argsort(e)) for e in edges]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def brain_volume_ml(mask: sitk.Image) -> float:
    """Volume of the brain mask."""
    voxels = int((sitk.GetArrayViewFromImage(mask) > 0).sum())
    return float(voxels * np.prod(mask.GetSpacing()) / 1000)


def require_same_head(agreement: float, *, pseudonym: str) -> None:
    """InputError `different-patients` when the two sequences cannot be of one head."""
    if agreement < SMALLEST_AGREEMENT:
        raise InputError(
            "different-patients",
            case=pseudonym,
            field="flair_path",
            problem="After registration T1CE and FLAIR do not show the same anatomy.",
            fix="Check that both files belong to the same examination.",
            local=f"edge agreement {agreement:.2f}, at least {SMALLEST_AGREEMENT} expected",
        )
