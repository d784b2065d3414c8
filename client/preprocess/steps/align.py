"""align: rigid and affine registration with ANTs (Avants et al. 2011), estimated on coarse copies.

A transform maps points of the fixed image to points of the moving one (ITK's convention), as resampling
the moving image onto the fixed grid needs it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import ants
import numpy as np
import SimpleITK as sitk

__all__ = ["coarse", "estimate_transform"]

SAMPLING = 0.25
ITERATIONS = {"rigid": (100, 60, 20), "affine": (100, 80, 30)}


def estimate_transform(
    fixed: sitk.Image,
    moving: sitk.Image,
    *,
    kind: Literal["rigid", "affine"],
    working_mm: float,
    seed: int = 1,
    fixed_mask: sitk.Image | None = None,
    start: sitk.Transform | None = None,
) -> sitk.Transform:
    """Mattes mutual information over three resolutions; deterministic for a seed and one thread.

    start: a first guess; without one the centres of mass are aligned.
    """
    coarse_fixed, coarse_moving = coarse(fixed, working_mm), coarse(moving, working_mm)
    options = {}
    if fixed_mask is not None:
        options["mask"] = _to_ants(sitk.Resample(fixed_mask, coarse_fixed, sitk.Transform(), sitk.sitkNearestNeighbor))
    with tempfile.TemporaryDirectory(prefix="fedmidline-align-") as folder:
        initial = None
        if start is not None:
            initial = [str(Path(folder) / "start.mat")]
            sitk.WriteTransform(start, initial[0])
        result = ants.registration(
            fixed=_to_ants(coarse_fixed),
            moving=_to_ants(coarse_moving),
            type_of_transform={"rigid": "Rigid", "affine": "Affine"}[kind],
            initial_transform=initial,
            outprefix=str(Path(folder) / "out"),
            aff_metric="mattes",
            aff_sampling=32,
            aff_random_sampling_rate=SAMPLING,
            aff_iterations=ITERATIONS[kind],
            aff_shrink_factors=(4, 2, 1),
            aff_smoothing_sigmas=(3, 1, 0),
            random_seed=seed,
            singleprecision=True,
            **options,
        )
        # The last in the list is applied last in ANTs' order; with a start there may be two.
        parts = [sitk.ReadTransform(name) for name in result["fwdtransforms"]]
    return parts[0] if len(parts) == 1 else sitk.CompositeTransform(parts)


def coarse(image: sitk.Image, voxel_mm: float) -> sitk.Image:
    """A copy with voxels of at least `voxel_mm`; thick slices stay as they are."""
    spacing = [max(s, voxel_mm) for s in image.GetSpacing()]
    if np.allclose(spacing, image.GetSpacing(), rtol=0.1):
        return sitk.Cast(image, sitk.sitkFloat32)
    size = [max(1, round(n * s / t)) for n, s, t in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)]
    sigmas = [max(0.35 * t, 1e-3) for t in spacing]
    smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(image, sitk.sitkFloat32), sigmas)
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection(), 0.0
    )


def _to_ants(image: sitk.Image) -> ants.ANTsImage:
    """The same image for ANTs: x, y, z order, LPS positions."""
    array = sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32)).transpose(2, 1, 0)
    return ants.from_numpy(
        np.ascontiguousarray(array),
        origin=image.GetOrigin(),
        spacing=image.GetSpacing(),
        direction=np.array(image.GetDirection()).reshape(3, 3),
    )
