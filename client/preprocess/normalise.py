"""normalise: intensities inside the brain mask by the protocol's method, 0 outside (METHOD R16)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from client.case import Case, StepRecord
from client.preprocess.steps.nyul import landmarks_of, on_standard_scale
from client.preprocess.steps.whitestripe import whitestriped
from client.preprocess.steps.zscore import zscored
from common.config.preprocessing import PreprocessingSettings
from common.errors import InputError

__all__ = ["brain_landmarks", "normalise", "zscore_image"]

Values = np.ndarray[Any, np.dtype[np.float64]]
Sequence = Literal["T1CE", "FLAIR"]
PROSE = {
    "zscore": "Intensities were z-scored inside the brain mask.",
    "whitestripe": "Intensities were normalised by WhiteStripe inside the brain mask.",
    "nyul": "The percentiles of the brain's intensities were brought to the study's standard scale (Nyul).",
}


def normalise(case: Case, settings: PreprocessingSettings) -> Case:
    """Both sequences, each by its own brain; InputError `brain-without-contrast`."""
    t1ce, flair = (_image(case, name, _method(settings, name)) for name in ("T1CE", "FLAIR"))
    return case.evolve(StepRecord(settings.normalisation, PROSE[settings.normalisation]), t1ce=t1ce, flair=flair)


def zscore_image(case: Case, name: Sequence) -> sitk.Image:
    """What a network sees, whatever the radiomics are measured on."""
    return _image(case, name, zscored)


def brain_landmarks(case: Case, name: Sequence) -> Values:
    """The percentiles of a sequence's brain; InputError `brain-without-contrast`."""
    return _computed(case, name, landmarks_of)


def _method(settings: PreprocessingSettings, name: Sequence) -> Callable[[Values], Values]:
    if settings.normalisation == "whitestripe":
        return partial(whitestriped, sequence=name)
    if settings.standard_scale is not None:
        return partial(on_standard_scale, scale=getattr(settings.standard_scale, name.lower()))
    return zscored


def _image(case: Case, name: Sequence, method: Callable[[Values], Values]) -> sitk.Image:
    inside = _inside(case)
    array = np.zeros(inside.shape, np.float32)
    array[inside] = _computed(case, name, method)
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(case.t1ce)
    return image


def _computed(case: Case, name: Sequence, method: Callable[[Values], Values]) -> Values:
    """Of the brain's voxels in float64, and in words where there is nothing to compute."""
    image = case.t1ce if name == "T1CE" else case.flair
    try:
        return method(sitk.GetArrayViewFromImage(image)[_inside(case)].astype(np.float64))
    except ValueError as error:
        raise InputError(
            "brain-without-contrast",
            case=case.pseudonym,
            field="brain mask",
            problem="The brain mask is empty or the image is constant inside it.",
            fix="Check the image, or import a brain mask.",
            local=f"{name}: {error}",
        ) from None


def _inside(case: Case) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if case.brain_mask is None:
        raise ValueError("normalisation comes after the brain mask")
    inside: np.ndarray[Any, np.dtype[np.bool_]] = sitk.GetArrayViewFromImage(case.brain_mask) > 0
    return inside
