"""radiomics: PyRadiomics 3.0.1's values of both sequences in catalogue order (METHOD R22, R23).

Equal to the plain extractor to the last bit, and faster: the image is cropped to the tumour with the margin
that the wavelet needs, and shape is computed once for both sequences, because they share one mask.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from radiomics import imageoperations
from radiomics.featureextractor import RadiomicsFeatureExtractor

from common.arrays import FeatureVector
from common.catalogue import FEATURES_BY_CLASS, SEQUENCES, radiomics_names
from common.config.radiomics import RadiomicsSettings
from common.errors import InputError

__all__ = ["RadiomicsResult", "extract_radiomics"]

WAVELET_MARGIN = 10
"""Voxels around the tumour that reach its wavelet coefficients (coif1: 6 taps); more changes nothing."""
FEWEST_VOXELS = 64

PRESETS: dict[str, dict[str, Any]] = {
    "ibsi_like_32": {"binCount": 32},
    "paper_default": {"binWidth": 25},
    "pyrad_mr": {"binWidth": 5},
    "thick_slice_2d": {"binCount": 32, "force2D": True, "force2Ddimension": 0},
}
SCALE = {"pyrad_mr": 100.0}

logging.getLogger("radiomics").setLevel(logging.ERROR)


@dataclass(frozen=True)
class RadiomicsResult:
    """values: float64 in the order of `radiomics_names()`; warnings: what makes some of them doubtful."""

    values: FeatureVector
    warnings: tuple[str, ...]


def extract_radiomics(
    t1ce: sitk.Image, flair: sitk.Image, mask: sitk.Image, settings: RadiomicsSettings
) -> RadiomicsResult:
    """All 1702 features of one case; images z-scored, mask binary, one grid.

    InputError `feature-not-finite` names the features PyRadiomics could not compute.
    """
    found: dict[str, float] = {}
    warnings: list[str] = []
    voxels = int(sitk.GetArrayViewFromImage(mask).sum())
    if voxels < FEWEST_VOXELS:
        warnings.append(f"whole tumour of {voxels} voxels; textures need at least {FEWEST_VOXELS}")
    shape: dict[str, float] = {}
    for sequence, image in zip(SEQUENCES, (t1ce, flair), strict=True):
        scaled = image * SCALE.get(settings.preset, 1.0)
        values = _extract(scaled, mask, settings, with_shape=not shape)
        shape = shape or {name: value for name, value in values.items() if "_shape_" in name}
        found.update({f"{sequence}_{name}": value for name, value in {**shape, **values}.items()})
        warnings += [f"{sequence} {text}" for text in _few_grey_levels(scaled, mask, settings)]
    return RadiomicsResult(_in_order(found), tuple(warnings))


def _extract(image: sitk.Image, mask: sitk.Image, settings: RadiomicsSettings, *, with_shape: bool) -> dict[str, float]:
    """PyRadiomics' own extractor on the cropped image; its names without the diagnostics."""
    extractor = RadiomicsFeatureExtractor(
        **PRESETS[settings.preset],
        normalize=False,
        correctMask=False,
        preCrop=True,
        padDistance=WAVELET_MARGIN,
        additionalInfo=False,
    )
    extractor.disableAllImageTypes()
    extractor.enableImageTypeByName("Original")
    extractor.enableImageTypeByName("Wavelet", customArgs={"wavelet": settings.wavelet})
    extractor.disableAllFeatures()
    for family, features in FEATURES_BY_CLASS.items():
        if family != "shape" or with_shape:
            extractor.enableFeaturesByName(**{family: list(features)})
    return {name: float(value) for name, value in extractor.execute(image, mask).items()}


def _few_grey_levels(image: sitk.Image, mask: sitk.Image, settings: RadiomicsSettings) -> list[str]:
    """Filtered images whose ROI has fewer grey levels than a texture needs (F4)."""
    preset = PRESETS[settings.preset]
    box, _ = imageoperations.checkMask(image, mask)
    cropped, small = imageoperations.cropToTumorMask(image, mask, box, padDistance=WAVELET_MARGIN)
    inside = sitk.GetArrayFromImage(small) > 0
    texts = []
    images = [(cropped, "original"), *((i, n) for i, n, _ in _wavelets(cropped, small, settings))]
    for filtered, name in images:
        values = sitk.GetArrayFromImage(filtered)[inside]
        if "binCount" in preset:
            levels = preset["binCount"] if values.max() > values.min() else 1
        else:
            width = preset["binWidth"]
            levels = int(np.floor(values.max() / width) - np.floor(values.min() / width)) + 1
        if levels < settings.fewest_grey_levels:
            texts.append(f"{name}: {levels} grey levels")
    return texts


def _wavelets(image: sitk.Image, mask: sitk.Image, settings: RadiomicsSettings) -> Any:
    return imageoperations.getWaveletImage(image, mask, wavelet=settings.wavelet)


def _in_order(found: dict[str, float]) -> FeatureVector:
    names = radiomics_names()
    if set(found) != set(names):
        raise InputError(
            "catalogue-differs",
            field=", ".join(sorted(set(found) ^ set(names))[:5]),
            problem="PyRadiomics returned other features than the catalogue lists.",
            fix="Install PyRadiomics 3.0.1 as pinned.",
        )
    values = np.array([found[name] for name in names])
    if not np.isfinite(values).all():
        bad = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
        raise InputError(
            "feature-not-finite",
            field=", ".join(bad[:5]),
            problem=f"{len(bad)} feature(s) are NaN or infinite, as of a constant region.",
            fix="Check the mask; a region of one grey value has no texture.",
        )
    return values
