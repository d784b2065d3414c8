"""zscore: mean 0 and standard deviation 1 inside the brain mask, 0 outside (METHOD R16)."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from client.case import Case, StepRecord
from common.errors import InputError

__all__ = ["normalise", "zscore_image"]


def normalise(case: Case) -> Case:
    """Both sequences, each by its own brain."""
    if case.brain_mask is None:
        raise ValueError("normalisation comes after the brain mask")
    try:
        t1ce, flair = zscore_image(case.t1ce, case.brain_mask), zscore_image(case.flair, case.brain_mask)
    except ValueError as error:
        raise InputError(
            "brain-without-contrast",
            case=case.pseudonym,
            field="brain mask",
            problem="The brain mask is empty or the image is constant inside it.",
            fix="Check the image, or import a brain mask.",
            local=str(error),
        ) from None
    record = StepRecord("zscore", "Intensities were z-scored inside the brain mask.")
    return case.evolve(record, t1ce=t1ce, flair=flair)


def zscore_image(image: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """ValueError where there is nothing to normalise."""
    array = sitk.GetArrayFromImage(image).astype(np.float64)
    inside = sitk.GetArrayViewFromImage(mask) > 0
    values = array[inside]
    if values.size == 0 or values.std() <= 1e-9 * max(abs(values.mean()), 1e-9):
        raise ValueError(f"{values.size} voxels")
    scored = np.where(inside, (array - values.mean()) / values.std(), 0.0).astype(np.float32)
    result = sitk.GetImageFromArray(scored)
    result.CopyInformation(image)
    return result
