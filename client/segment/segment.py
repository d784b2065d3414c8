"""segment: the whole tumour (with oedema) by the U-Net (METHOD R17)."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from client.segment.weights import load_network
from common.config.segmentation import SegmentationSettings
from common.errors import InputError

__all__ = ["segment_whole_tumour"]

MULTIPLE = 8
"""Edges the network takes: three halvings."""

Volume = np.ndarray[Any, np.dtype[np.float32]]


def segment_whole_tumour(
    t1ce: sitk.Image, flair: sitk.Image, brain_mask: sitk.Image, settings: SegmentationSettings, *, device: str
) -> sitk.Image:
    """A binary mask on the images' grid; inputs are z-scored in the brain and zero outside.

    The network runs once on the brain at `working_mm`; its probability, not its mask, is brought back.
    InputError `no-tumour-found` when nothing is left after tidying.
    """
    coarse = [_at(image, settings.working_mm) for image in (t1ce, flair, brain_mask)]
    brain = sitk.GetArrayFromImage(coarse[2]) > 0.5
    box = _box(brain)
    cube = np.stack([sitk.GetArrayFromImage(image)[box] for image in coarse[:2]])
    probability = np.zeros(brain.shape, np.float32)
    probability[box] = _run(cube, load_network(settings, device=device), device)
    probability[~brain] = 0
    soft = sitk.GetImageFromArray(probability)
    soft.CopyInformation(coarse[2])
    fine = sitk.GetArrayFromImage(sitk.Resample(soft, t1ce, sitk.Transform(), sitk.sitkLinear, 0.0))
    voxel_ml = float(np.prod(t1ce.GetSpacing())) / 1000
    mask = _tidy(fine > settings.threshold, settings.smallest_component_ml / voxel_ml)
    if not mask.any():
        raise InputError(
            "no-tumour-found",
            field="segmentation",
            problem="The network found no tumour.",
            fix="Import a mask drawn by a reader, or exclude the case.",
        )
    result = sitk.GetImageFromArray(mask.astype(np.uint8))
    result.CopyInformation(t1ce)
    return result


def _at(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """The image with cubic voxels of the network's size."""
    image = sitk.Cast(image, sitk.sitkFloat32)
    if np.allclose(image.GetSpacing(), spacing_mm, rtol=1e-3):
        return image
    size = [int(np.ceil(n * s / spacing_mm)) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    sigmas = [max(0.35 * spacing_mm, 1e-3)] * 3
    smooth = sitk.SmoothingRecursiveGaussian(image, sigmas) if image.GetSpacing()[0] < spacing_mm else image
    spacing = [spacing_mm] * 3
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection(), 0.0
    )


def _box(brain: np.ndarray[Any, Any]) -> tuple[slice, ...]:
    """The brain's bounding box, a little wider."""
    where = ndimage.find_objects(brain.astype(np.int8))[0]
    return tuple(slice(max(0, s.start - 4), min(n, s.stop + 4)) for s, n in zip(where, brain.shape, strict=True))


def _run(cube: Volume, network: torch.nn.Module, device: str) -> Volume:
    """Probability of each voxel; the cube is padded to edges the network takes."""
    shape = cube.shape[1:]
    padded = np.pad(cube, [(0, 0), *[(0, -n % MULTIPLE) for n in shape]])
    with torch.no_grad():
        logits = network(torch.from_numpy(padded[None]).to(device))
    inside = tuple(slice(0, n) for n in shape)
    return np.asarray(torch.sigmoid(logits)[0, 0].cpu().numpy()[inside], np.float32)


def _tidy(mask: np.ndarray[Any, Any], fewest_voxels: float) -> np.ndarray[Any, Any]:
    """Holes filled, crumbs dropped."""
    labels, _ = ndimage.label(ndimage.binary_fill_holes(mask))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    # A tumour may have satellites; a crumb a twentieth of it is more often a vessel or a patch of noise.
    return np.asarray((sizes >= max(fewest_voxels, sizes.max() / 20, 1))[labels])
