"""quality: numbers that tell whether a preparation can be believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pywt
import SimpleITK as sitk
from scipy import ndimage

from client.case import Case
from client.preprocess.atlas import Atlas
from common.errors import InputError

__all__ = ["edge_agreement", "measure_native", "measure_prepared", "require_same_head", "signal_to_noise"]

SMALLEST_AGREEMENT = 0.35
"""Measured on the synthetic cohort and the real case of shared/data: FLAIR and T1CE of one head agree by more
than this after registration, of two heads by less (docs/decisions/0003-same-head.md)."""


def measure_native(case: Case) -> tuple[tuple[str, float], ...]:
    """What only the scanner's own grid tells: signal to noise of both sequences, where there is noise at all."""
    found = (("snr_t1ce", signal_to_noise(case.t1ce)), ("snr_flair", signal_to_noise(case.flair)))
    return tuple((name, value) for name, value in found if value is not None)


def measure_prepared(case: Case, atlas: Atlas) -> tuple[tuple[str, float], ...]:
    """Registration and skull strip on the atlas grid.

    edge_agreement: FLAIR to T1CE; atlas_agreement: T1CE to the atlas; atlas_overlap: Dice of the brain masks;
    brain_volume_ml: in the atlas' space.
    """
    if case.brain_mask is None:
        raise ValueError("quality comes after the brain mask")
    atlas_brain = sitk.Resample(atlas.brain, case.t1ce, sitk.Transform(), sitk.sitkLinear, 0.0)
    atlas_mask = sitk.Resample(atlas.mask, case.t1ce, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    own, expected = (sitk.GetArrayViewFromImage(mask) > 0 for mask in (case.brain_mask, atlas_mask))
    return (
        ("edge_agreement", edge_agreement(case.t1ce, case.flair, case.brain_mask)),
        ("atlas_agreement", edge_agreement(case.t1ce, atlas_brain, atlas_mask)),
        ("atlas_overlap", float(2 * (own & expected).sum() / (own.sum() + expected.sum()))),
        ("brain_volume_ml", float(own.sum() * np.prod(case.brain_mask.GetSpacing()) / 1000)),
    )


def signal_to_noise(image: sitk.Image) -> float | None:
    """Median of what is no background (Otsu) over the noise's deviation there; None where nothing varies.

    The noise is the median absolute finest diagonal wavelet coefficient of the slices over 0.6745 (Donoho and
    Johnstone 1994).  An image that a scanner has interpolated seems less noisy than it was.
    """
    array = sitk.GetArrayFromImage(image).astype(np.float64)
    if array.min() == array.max():
        return None
    head = sitk.GetArrayViewFromImage(sitk.OtsuThreshold(sitk.Cast(image, sitk.sitkFloat32), 0, 1, 128)) > 0
    across = int(np.argmax(image.GetSpacing()[::-1]))
    array, head = (_even(np.moveaxis(a, across, 0)) for a in (array, head))
    inside = head[:, ::2, ::2] & head[:, 1::2, ::2] & head[:, ::2, 1::2] & head[:, 1::2, 1::2]
    if not inside.any():
        return None
    diagonal = pywt.dwt2(array, "haar", axes=(1, 2))[1][2]
    noise = float(np.median(np.abs(diagonal[inside]))) / 0.6745
    return float(np.median(array[head])) / noise if noise > 0 else None


def _even(slices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return slices[:, : slices.shape[1] // 2 * 2, : slices.shape[2] // 2 * 2]


def edge_agreement(t1ce: sitk.Image, flair: sitk.Image, mask: sitk.Image) -> float:
    """Correlation of the two sequences' edge maps inside the brain: contrasts differ, anatomy does not."""
    inside = sitk.GetArrayViewFromImage(mask) > 0
    edges = [ndimage.gaussian_gradient_magnitude(sitk.GetArrayFromImage(image), 1.0)[inside] for image in (t1ce, flair)]
    ranks = [np.argsort(np.argsort(e)) for e in edges]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


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
