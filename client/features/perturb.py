"""perturb: the same tumour as another day and another hand might have shown it (Zwanenburg et al. 2019).

Rotation about the z axis through the tumour and a shift below one voxel, both interpolated linearly for images
and mask alike; the mask grown or shrunk to a given volume; Gaussian noise as strong as the image's own, which
the wavelet's HHH band tells (Donoho 1995: median |HHH| / 0.6745).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from client.features.engine.roi import Roi, find_roi
from client.features.engine.settings import EngineSettings
from client.features.engine.wavelet import cut_out, wavelet_bands
from client.features.radiomics import extract_radiomics
from common.arrays import FeatureArray
from common.config.radiomics import RadiomicsSettings

__all__ = ["Perturbation", "draw_perturbations", "measure_repeats", "perturb"]

MARGIN = 12
"""Voxels kept around the tumour: room for growth, rotation and the wavelet."""
SMOOTHING = 1.5
"""Voxels: how far the mask is smoothed before it is cut at another height."""


@dataclass(frozen=True)
class Perturbation:
    """rotation: degrees about z; shift: voxels along x, y, z; growth: of the volume, 0.1 is 10 % more; noise: in units
    of the image's own.
    """

    rotation: float = 0.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    growth: float = 0.0
    noise: float = 0.0


def draw_perturbations(count: int, rng: np.random.Generator) -> tuple[Perturbation, ...]:
    """Rotation within 10 degrees, shift within half a voxel, volume within 15 %, noise as strong as the image's."""
    return tuple(
        Perturbation(
            rotation=float(rng.uniform(-10, 10)),
            shift=(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5))),
            growth=float(rng.uniform(-0.15, 0.15)),
            noise=1.0,
        )
        for _ in range(count)
    )


def measure_repeats(
    t1ce: sitk.Image,
    flair: sitk.Image,
    mask: sitk.Image,
    settings: RadiomicsSettings,
    rng: np.random.Generator,
) -> FeatureArray:
    """(settings.perturbations, features): the catalogue of each perturbed case."""
    rows = []
    for how in draw_perturbations(settings.perturbations, rng):
        (other_t1ce, other_flair), other_mask = perturb((t1ce, flair), mask, how, rng)
        rows.append(extract_radiomics(other_t1ce, other_flair, other_mask, settings).values)
    return np.array(rows)


def perturb(
    images: tuple[sitk.Image, ...], mask: sitk.Image, how: Perturbation, rng: np.random.Generator
) -> tuple[tuple[sitk.Image, ...], sitk.Image]:
    """The images and the mask around the tumour, changed alike; float32 and uint8."""
    roi = find_roi(sitk.GetArrayViewFromImage(mask))
    grid = _around(mask, roi)
    centre = [(part.start + part.stop - 1) / 2 for part in roi.box[::-1]]
    move = sitk.Euler3DTransform(mask.TransformContinuousIndexToPhysicalPoint(centre), 0, 0, np.deg2rad(how.rotation))
    step = np.array(mask.GetDirection()).reshape(3, 3) @ (np.array(how.shift) * mask.GetSpacing())
    move.SetTranslation(step.tolist())
    moved = [sitk.Resample(image, grid, move, sitk.sitkLinear, 0.0, sitk.sitkFloat32) for image in images]
    inside = sitk.Resample(mask != 0, grid, move, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    changed = _grow(inside, how.growth)
    return tuple(_add_noise(image, changed, how.noise, rng) for image in moved), changed


def _around(mask: sitk.Image, roi: Roi) -> sitk.Image:
    """The part of the mask's grid that stays."""
    low = [max(part.start - MARGIN, 0) for part in roi.box[::-1]]
    high = [min(part.stop + MARGIN, size) for part, size in zip(roi.box[::-1], mask.GetSize(), strict=True)]
    return mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]


def _grow(inside: sitk.Image, growth: float) -> sitk.Image:
    """The mask at half, or the highest values of its smoothed self, as many as the new volume has voxels.

    A distance map would not do: on a grid whole layers of voxels have one distance.
    """
    if growth == 0:
        return sitk.Cast(inside >= 0.5, sitk.sitkUInt8)
    wanted = max(round(float((sitk.GetArrayViewFromImage(inside) >= 0.5).sum()) * (1 + growth)), 1)
    smooth = sitk.SmoothingRecursiveGaussian(inside, [SMOOTHING * size for size in inside.GetSpacing()])
    height = sitk.GetArrayFromImage(smooth)
    limit = np.partition(height, height.size - wanted, axis=None)[height.size - wanted]
    grown = sitk.GetImageFromArray((height >= limit).astype(np.uint8))
    grown.CopyInformation(inside)
    return grown


def _add_noise(image: sitk.Image, mask: sitk.Image, strength: float, rng: np.random.Generator) -> sitk.Image:
    if strength == 0:
        return image
    array, roi, settings = sitk.GetArrayFromImage(image), find_roi(sitk.GetArrayViewFromImage(mask)), EngineSettings()
    ((_, band),) = wavelet_bands(cut_out(array, roi.box, settings), settings, ["wavelet-HHH"])
    sigma = float(np.median(np.abs(band[roi.inside]))) / 0.6745
    noisy = sitk.GetImageFromArray(array + (strength * sigma * rng.standard_normal(array.shape)).astype(np.float32))
    noisy.CopyInformation(image)
    return noisy
