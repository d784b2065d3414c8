"""parameter_file: features as a PyRadiomics parameter file asks for them (its `imageType`, `featureClass`, `setting`).

Loading, normalisation, resampling, re-segmentation and every filter but the wavelet are PyRadiomics' own
functions; the engine measures what they return.  What the engine cannot do is refused by name, never left out.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import yaml
from numpy.typing import NDArray
from pykwalify.errors import PyKwalifyException
from radiomics import imageoperations
from radiomics.featureextractor import RadiomicsFeatureExtractor
from radiomics.shape2D import RadiomicsShape2D

from client.features.checks import check_grid, few_grey_levels, few_voxels, finite_values
from client.features.engine.measure import KNOWN_FEATURES, Names, measure_shape
from client.features.engine.region import Region
from client.features.engine.roi import Roi, find_roi
from client.features.engine.sequence import Measured, measure_filtered, measure_sequence
from client.features.engine.settings import EngineSettings
from client.features.engine.wavelet import wavelet_names
from common.catalogue import FEATURES_BY_CLASS
from common.errors import ConfigError, InputError

__all__ = ["ParameterFile", "extract_with_parameters", "read_parameters"]

FILTERS_OF_PYRADIOMICS = ("LoG", "Square", "SquareRoot", "Logarithm", "Exponential", "Gradient")
FEWEST_GREY_LEVELS = 8
FLAT_SHAPE: Names = tuple(name for name, deprecated in RadiomicsShape2D.getFeatureNames().items() if not deprecated)

logging.getLogger("radiomics").setLevel(logging.ERROR)
logging.getLogger("pykwalify").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class ParameterFile:
    """settings: PyRadiomics' own, defaults filled in; images: type to its own settings; classes: features asked for;
    doubts: what PyRadiomics might add and the engine does not.
    """

    settings: Mapping[str, Any]
    images: Mapping[str, Mapping[str, Any]]
    classes: Mapping[str, Names]
    doubts: Names = ()


def read_parameters(text: str, *, source: str) -> ParameterFile:
    """Check against PyRadiomics' schema and against what the engine can do.

    source: the file's name, for the hospital's eyes only.
    ConfigError `parameters-invalid` or `parameters-not-supported`, which names what is not.
    """
    try:
        raw = yaml.safe_load(text)
        # PyRadiomics sets SimpleITK's global tolerance when it reads a file, and its schema checker loads
        # extensions in a way that Python has deprecated.
        with _tolerance(None), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            extractor = RadiomicsFeatureExtractor(raw if isinstance(raw, dict) else {"": raw})
    except (yaml.YAMLError, PyKwalifyException, ValueError, TypeError) as error:
        raise ConfigError(
            "parameters-invalid",
            field="settings",
            problem="The file is not a valid PyRadiomics parameter file.",
            fix="Mend what its schema names; see PyRadiomics' example settings.",
            local=f"{source}: {error}",
        ) from None
    images = {name: dict(custom or {}) for name, custom in extractor.enabledImagetypes.items()}
    # A file without classes asks for all; shape2D would then come along and means nothing in three dimensions.
    classes = dict(extractor.enabledFeatures) if raw.get("featureClass") else dict.fromkeys(KNOWN_FEATURES, ())
    _refuse_unsupported(raw, images, classes)
    every = {**FEATURES_BY_CLASS, "shape2D": FLAT_SHAPE}
    asked = {name: tuple(features) if features else every[name] for name, features in classes.items()}
    doubts = () if raw.get("featureClass") or not extractor.settings["force2D"] else ("class shape2D is not computed",)
    return ParameterFile(dict(extractor.settings), images, asked, doubts)


def _refuse_unsupported(raw: Mapping[str, Any], images: Mapping[str, Any], classes: Mapping[str, Any]) -> None:
    wrong = [f"imageType.{name}" for name in images if name not in ("Original", "Wavelet", *FILTERS_OF_PYRADIOMICS)]
    known = {**KNOWN_FEATURES, "shape2D": frozenset(FLAT_SHAPE)}
    wrong += [
        f"featureClass.{family}.{feature}"
        for family, features in classes.items()
        for feature in features or ()
        if feature not in known[family]
    ]
    wrong += ["voxelSetting"] if raw.get("voxelSetting") else []
    if wrong:
        raise ConfigError(
            "parameters-not-supported",
            field=", ".join(wrong),
            problem="The file asks for what is not computed here: local binary patterns, features that PyRadiomics "
            "has deprecated, or maps voxel by voxel.",
            fix="Remove it from the file, or use PyRadiomics itself.",
        )


def extract_with_parameters(
    image: sitk.Image, mask: sitk.Image, parameters: ParameterFile, *, sequence: str, only: Names | None = None
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Features as `SEQUENCE_filter_class_feature`, and warnings.

    only: names to compute; ConfigError `feature-unknown` where the file does not ask for one of them.
    """
    settings = parameters.settings
    doubts = [*parameters.doubts, *_other_labels(mask, settings)]
    plan = _plan(parameters, sequence, only)
    image, mask, shape_mask = _load(image, mask, settings, sequence)
    roi, spacing = _find(mask, settings), np.array(image.GetSpacing()[::-1])
    found: dict[str, float] = {}
    if names := plan.pop("shape", {}).get("shape"):
        inside, cut = _shape_region(shape_mask, roi, settings)
        doubts += (
            ["shape is that of the mask within the box of the re-segmented one, as PyRadiomics does"] if cut else []
        )
        shape = measure_shape(Region(inside, spacing), names)
        found.update({f"original_shape_{name}": value for name, value in shape.items()})
    if names := plan.pop("shape2D", {}).get("shape2D"):
        found.update(_flat_shape(image, shape_mask, settings, names))
    levels: dict[str, int] = {}
    for kind, own in parameters.images.items():
        measured = _measure_kind(kind, {**settings, **own}, image, mask, roi, plan)
        found.update(measured.values)
        levels.update(measured.levels)
    named = {f"{sequence}_{name}": value for name, value in found.items()}
    finite_values(named, tuple(named))
    doubts += few_voxels(int(roi.inside.sum())) + few_grey_levels(levels, FEWEST_GREY_LEVELS, sequence)
    return named, tuple(doubts)


def _plan(parameters: ParameterFile, sequence: str, only: Names | None) -> dict[str, dict[str, Names]]:
    """Features by filter and class; those of shape, which no filter changes, under the class's own name."""
    filters = [
        f for kind, own in parameters.images.items() for f in _filter_names(kind, {**parameters.settings, **own})
    ]
    chosen = None if only is None else {name.removeprefix(f"{sequence}_") for name in only}
    plan: dict[str, dict[str, Names]] = {}
    for family, features in parameters.classes.items():
        is_shape = family.startswith("shape")
        for name in [family] if is_shape else filters:
            prefix = f"original_{family}" if is_shape else f"{name}_{family}"
            wanted = tuple(f for f in features if chosen is None or f"{prefix}_{f}" in chosen)
            if wanted:
                plan.setdefault(name, {})[family] = wanted
            if chosen is not None:
                chosen -= {f"{prefix}_{feature}" for feature in wanted}
    if chosen:
        raise ConfigError(
            "feature-unknown",
            field=", ".join(sorted(chosen)[:5]),
            problem=f"The parameter file does not ask for {len(chosen)} of the features wanted.",
            fix="Add their image type and class to the file.",
        )
    return plan


def _filter_names(kind: str, settings: Mapping[str, Any]) -> Names:
    if kind == "Wavelet":
        return wavelet_names(EngineSettings.from_pyradiomics(settings))
    if kind == "LoG":
        return tuple(f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D" for sigma in settings.get("sigma", ()))
    return (kind.lower(),)


def _measure_kind(
    kind: str,
    settings: Mapping[str, Any],
    image: sitk.Image,
    mask: sitk.Image,
    roi: Roi,
    plan: Mapping[str, Mapping[str, Names]],
) -> Measured:
    """All images of one type: wavelets by the engine, other filters by PyRadiomics."""
    engine = EngineSettings.from_pyradiomics(settings)
    region = Region(roi.inside, np.array(image.GetSpacing()[::-1]), engine.distances, engine.flat_axis)
    wanted = {name: plan[name] for name in _filter_names(kind, settings) if name in plan}
    if kind in {"Original", "Wavelet"}:
        return measure_sequence(sitk.GetArrayViewFromImage(image), roi, region, engine, wanted)
    measured = Measured()
    filtered = getattr(imageoperations, f"get{kind}Image")(image, mask, **settings) if wanted else ()
    for result, name, _ in filtered:
        voxels = region.voxels(sitk.GetArrayViewFromImage(result)[roi.box])
        measure_filtered(measured, name, voxels, region, engine, wanted[name])
    if missing := set(wanted) - set(measured.levels):
        raise InputError(
            "filter-does-not-fit",
            field=", ".join(sorted(missing)),
            problem="PyRadiomics cannot apply this filter to an image of this size.",
            fix="Choose a smaller sigma, or leave the filter out.",
        )
    return measured


def _flat_shape(image: sitk.Image, mask: sitk.Image, settings: Mapping[str, Any], names: Names) -> dict[str, float]:
    """Two-dimensional shape is PyRadiomics' own; it exists for a mask of one slice, with force2D."""
    extractor = RadiomicsFeatureExtractor()
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(shape2D=list(names))
    try:
        box, _ = imageoperations.checkMask(image, mask, **settings)
        found = extractor.computeShape(image, mask, box, **settings)
    except ValueError:
        found = {}
    if not found:
        raise InputError(
            "shape2d-does-not-fit",
            field="featureClass.shape2D",
            problem="PyRadiomics has two-dimensional shape only for a mask of one slice, with force2D.",
            fix="Ask for class shape, or give a mask of one slice.",
        )
    return {name: float(value) for name, value in found.items()}


def _load(
    image: sitk.Image, mask: sitk.Image, settings: Mapping[str, Any], sequence: str
) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    """Image, mask, and mask for shape after what the file says of loading, in PyRadiomics' order."""
    if not settings.get("correctMask") and not settings.get("resampledPixelSpacing"):
        check_grid(image, mask, sequence)
    try:
        with _tolerance(settings.get("geometryTolerance")):
            image, mask = RadiomicsFeatureExtractor.loadImage(image, mask, None, **settings)
            _, corrected = imageoperations.checkMask(image, mask, **settings)
            mask = mask if corrected is None else corrected
            if settings.get("resegmentRange") is None:
                return image, mask, mask
            inner = imageoperations.resegmentMask(image, mask, **settings)
            imageoperations.checkMask(image, inner, **settings)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            "pyradiomics-refuses",
            field=f"{sequence}, mask",
            problem="PyRadiomics cannot load this image and mask with these settings.",
            fix="See the local message: mostly the label is missing, or the grids differ.",
            local=str(error),
        ) from None
    return image, inner, inner if settings.get("resegmentShape") else mask


@contextmanager
def _tolerance(geometry: float | None) -> Iterator[None]:
    """SimpleITK's tolerance is global; put it back."""
    process = sitk.ProcessObject
    before = process.GetGlobalDefaultCoordinateTolerance(), process.GetGlobalDefaultDirectionTolerance()
    try:
        if geometry is not None:
            process.SetGlobalDefaultCoordinateTolerance(geometry)
            process.SetGlobalDefaultDirectionTolerance(geometry)
        yield
    finally:
        process.SetGlobalDefaultCoordinateTolerance(before[0])
        process.SetGlobalDefaultDirectionTolerance(before[1])


def _shape_region(mask: sitk.Image, roi: Roi, settings: Mapping[str, Any]) -> tuple[NDArray[np.bool_], bool]:
    """PyRadiomics measures the shape of the whole mask, but cut to the box of the re-segmented one; and whether that
    cuts anything off.
    """
    whole = sitk.GetArrayViewFromImage(mask) == int(settings.get("label", 1))
    inside = whole[roi.box]
    return inside, bool(np.count_nonzero(inside) < np.count_nonzero(whole))


def _find(mask: sitk.Image, settings: Mapping[str, Any]) -> Roi:
    array = sitk.GetArrayViewFromImage(mask)
    fewest = int(settings.get("minimumROIDimensions", 2))
    return find_roi(array, label=int(settings.get("label", 1)), fewest_dimensions=fewest)


def _other_labels(mask: sitk.Image, settings: Mapping[str, Any]) -> list[str]:
    """PyRadiomics takes label 1 unless told otherwise; with several labels that deserves a word."""
    if mask.GetNumberOfComponentsPerPixel() > 1:
        return []
    array, label = sitk.GetArrayViewFromImage(mask), settings.get("label", 1)
    others = np.setdiff1d(np.unique(array[array != 0]), [label])
    named = ", ".join(f"{value:g}" for value in others[:8])
    return [f"only label {label} of the mask is measured; it also holds {named}"] if len(others) else []
