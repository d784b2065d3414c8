"""checks: what makes images unusable together, or a feature's value missing or doubtful."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from common.arrays import FeatureVector
from common.errors import InputError

__all__ = ["FEWEST_VOXELS", "check_grid", "few_grey_levels", "few_voxels", "finite_values"]

FEWEST_VOXELS = 64
GRID_TOLERANCE = 1e-3
"""Millimetres (spacing, origin) and direction cosines."""


def check_grid(image: sitk.Image, mask: sitk.Image, name: str) -> None:
    """InputError `image-not-3d` or `grid-differs`, which says in what."""
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            "image-not-3d",
            field=name,
            problem=f"The image has {image.GetDimension()} dimensions "
            f"and {image.GetNumberOfComponentsPerPixel()} value(s) per voxel.",
            fix="Give one three-dimensional image with one value per voxel.",
        )
    pairs = {
        "size": (image.GetSize(), mask.GetSize()),
        "spacing": (image.GetSpacing(), mask.GetSpacing()),
        "origin": (image.GetOrigin(), mask.GetOrigin()),
        "direction": (image.GetDirection(), mask.GetDirection()),
    }
    differing = [
        word
        for word, (one, other) in pairs.items()
        if len(one) != len(other) or not np.allclose(one, other, rtol=0, atol=GRID_TOLERANCE)
    ]
    if differing:
        raise InputError(
            "grid-differs",
            field=f"{name}, mask",
            problem=f"Image and mask differ in {', '.join(differing)}.",
            fix="Resample the mask to the image with nearest-neighbour interpolation.",
        )


def few_voxels(voxels: int) -> list[str]:
    """A warning for a ROI too small for textures."""
    if voxels >= FEWEST_VOXELS:
        return []
    return [f"whole tumour of {voxels} voxels; textures need at least {FEWEST_VOXELS}"]


def few_grey_levels(levels: Mapping[str, int], fewest: int, sequence: str) -> list[str]:
    """Warnings for filtered images whose ROI has fewer grey levels than a texture needs (F4)."""
    return [f"{sequence} {name}: {count} grey levels" for name, count in levels.items() if count < fewest]


def finite_values(found: Mapping[str, float], names: tuple[str, ...]) -> FeatureVector:
    """The values in the order of names; InputError `feature-not-finite` names those without a value."""
    values = np.array([found[name] for name in names], dtype=np.float64)
    bad = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
    if bad:
        raise InputError(
            "feature-not-finite",
            field=", ".join(bad[:5]),
            problem=f"{len(bad)} feature(s) have no finite value, as of a region without neighbouring voxels.",
            fix="Check the mask and the intensities; ask for other features.",
        )
    return values
