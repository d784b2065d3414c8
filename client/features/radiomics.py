"""radiomics: PyRadiomics 3.0.1's values of both sequences in catalogue order (METHOD R22, R23).

Every value equals the plain extractor's (relative 1e-9; the tests hold it) and most of the work is shared:
the mask's geometry by all bands and sequences, shape by both sequences, and nothing is computed that
nobody asked for.  The engine behind it is in `client/features/engine`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pywt
import SimpleITK as sitk

from client.features.checks import check_grid, few_grey_levels, few_voxels, finite_values
from client.features.engine.measure import measure_shape
from client.features.engine.region import Region
from client.features.engine.roi import find_roi
from client.features.engine.sequence import measure_sequence
from client.features.engine.settings import EngineSettings
from common.arrays import FeatureVector
from common.catalogue import SEQUENCES, radiomics_names
from common.config.radiomics import RadiomicsSettings
from common.errors import ConfigError

__all__ = ["RadiomicsResult", "engine_settings", "extract_radiomics"]

PRESETS = {
    "ibsi_like_32": EngineSettings(bin_count=32),
    "paper_default": EngineSettings(bin_width=25),
    "pyrad_mr": EngineSettings(bin_width=5),
    "thick_slice_2d": EngineSettings(bin_count=32, flat_axis=0),
}
SCALE = {"pyrad_mr": 100.0}


@dataclass(frozen=True)
class RadiomicsResult:
    """values: float64 in the order of names; warnings: what makes some of them doubtful."""

    values: FeatureVector
    warnings: tuple[str, ...]
    names: tuple[str, ...]


def engine_settings(settings: RadiomicsSettings) -> EngineSettings:
    """What a preset says, in the engine's words."""
    preset = PRESETS[settings.preset]
    if settings.wavelet not in pywt.wavelist(kind="discrete"):
        raise ConfigError(
            "wavelet-unknown",
            field="radiomics.wavelet",
            problem=f"PyWavelets has no discrete wavelet {settings.wavelet}.",
            fix="Choose one of pywt.wavelist(kind='discrete'), such as coif1.",
        )
    return replace(preset, wavelet=settings.wavelet)


def extract_radiomics(
    t1ce: sitk.Image,
    flair: sitk.Image | None,
    mask: sitk.Image,
    settings: RadiomicsSettings,
    *,
    features: tuple[str, ...] | None = None,
    label: int | None = None,
) -> RadiomicsResult:
    """All features of one case (1702; 851 without FLAIR), or only `features`, in that order.

    t1ce, flair: taken as they are; the pipeline z-scores them.  mask: on their grid; one label, or `label`.
    InputError names what cannot be used: the grid, the mask, voxels that are not finite, intensities that
    do not fit the bins, and `feature-not-finite` for features without a value (a ROI without neighbours).
    """
    images = {name: image for name, image in zip(SEQUENCES, (t1ce, flair), strict=True) if image is not None}
    for name, image in images.items():
        check_grid(image, mask, name)
    names = settings.names(tuple(images)) if features is None else features
    _check_names(names, radiomics_names(tuple(images), settings.filters))
    roi = find_roi(sitk.GetArrayViewFromImage(mask), label=label)
    engine = engine_settings(settings)
    region = Region(roi.inside, np.array(t1ce.GetSpacing()[::-1]), engine.distances, engine.flat_axis)
    found: dict[str, float] = {}
    warnings = few_voxels(len(region))
    shape = measure_shape(region, tuple(sorted({name.split("_")[3] for name in names if "_shape_" in name})))
    for sequence, image in images.items():
        wanted = _by_filter(name for name in names if name.startswith(f"{sequence}_") and "_shape_" not in name)
        view = sitk.GetArrayViewFromImage(image)
        measured = measure_sequence(view, roi, region, engine, wanted, scale=SCALE.get(settings.preset, 1.0))
        found.update({f"{sequence}_{name}": value for name, value in measured.values.items()})
        found.update({f"{sequence}_original_shape_{name}": value for name, value in shape.items()})
        warnings += few_grey_levels(measured.levels, settings.fewest_grey_levels, sequence)
    return RadiomicsResult(finite_values(found, names), tuple(warnings), names)


def _by_filter(names: Iterable[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Catalogue names by filter and class."""
    sorted_names: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in names:
        _, image, family, feature = name.split("_")
        classes = sorted_names.setdefault(image, {})
        classes[family] = (*classes.get(family, ()), feature)
    return sorted_names


def _check_names(names: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(
            "feature-unknown",
            field=", ".join(unknown[:5]),
            problem=f"{len(unknown)} feature(s) are not in the catalogue of this preset and these sequences.",
            fix="Give the other sequence, or choose the preset that has these bands.",
        )
