"""segment: the whole tumour (with oedema) by the network, and how sure it was (METHOD R17)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.inferers.utils import sliding_window_inference
from scipy import ndimage

from common.config.segmentation import HALVINGS, SegmentationSettings
from common.errors import InputError

__all__ = ["Segmentation", "brain_box", "segment_whole_tumour", "to_spacing"]

MULTIPLE = 1 << HALVINGS
"""Edges the network takes."""
MIRRORS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "left_right": ((), (2,)),
    "all": tuple(axes for size in range(4) for axes in combinations((0, 1, 2), size)),
}
"""Axes (z, y, x) of each pass; x is left and right on the analysis grid."""

Volume = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Segmentation:
    """mask: binary, on the images' grid.

    uncertainty: mean binary entropy, in bits, of the network's probability over the voxels of the mask: 0 where it was
        sure of every voxel, 1 where it guessed.  The review shows uncertain cases first.
    volume_spread: standard deviation of the volume over the mirrored passes, over its mean; 0 with a single pass.
    """

    mask: sitk.Image
    uncertainty: float
    volume_spread: float


def segment_whole_tumour(
    t1ce: sitk.Image,
    flair: sitk.Image,
    brain_mask: sitk.Image,
    settings: SegmentationSettings,
    *,
    network: torch.nn.Module,
    device: str,
) -> Segmentation:
    """Inputs are z-scored in the brain and zero outside.

    The network runs on the brain at `working_mm`, at once or in windows, and on its mirror images where the protocol
    says so; the mean probability, not its mask, is brought back to the images' grid.
    InputError `no-tumour-found` when nothing is left after tidying.
    """
    coarse = [to_spacing(image, settings.working_mm) for image in (t1ce, flair, brain_mask)]
    brain = sitk.GetArrayFromImage(coarse[2]) > 0.5
    box = brain_box(brain)
    cube = np.stack([sitk.GetArrayFromImage(image)[box] for image in coarse[:2]])
    passes = [_run(cube, axes, network, settings.window_voxels, device) for axes in MIRRORS[settings.flips]]
    volumes = [float((one[brain[box]] > settings.threshold).sum()) for one in passes]
    probability = np.zeros(brain.shape, np.float32)
    probability[box] = np.mean(passes, axis=0)
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
    return Segmentation(result, _entropy(fine[mask]), float(np.std(volumes) / max(float(np.mean(volumes)), 1.0)))


def to_spacing(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """The image, float32, with cubic voxels of the network's size."""
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


def brain_box(brain: np.ndarray[Any, Any]) -> tuple[slice, ...]:
    """The brain's bounding box, a little wider."""
    where = ndimage.find_objects(brain.astype(np.int8))[0]
    return tuple(slice(max(0, s.start - 4), min(n, s.stop + 4)) for s, n in zip(where, brain.shape, strict=True))


def _run(cube: Volume, axes: tuple[int, ...], network: torch.nn.Module, window: int, device: str) -> Volume:
    """Probability of each voxel, from the cube mirrored along `axes` and turned back.

    The cube is padded with zeros to edges the network takes.
    """
    shape = cube.shape[1:]
    padded = np.pad(cube, [(0, 0), *[(0, -n % MULTIPLE) for n in shape]])
    mirrored = np.flip(padded, [axis + 1 for axis in axes])
    volume = torch.from_numpy(np.ascontiguousarray(mirrored[None])).to(device)
    with torch.no_grad():
        logits = _in_windows(volume, network, window) if window else network(volume)
    probability = torch.sigmoid(logits)[0, 0].cpu().numpy()
    inside = tuple(slice(0, n) for n in shape)
    return np.asarray(np.flip(probability, axes)[inside], np.float32)


def _in_windows(volume: torch.Tensor, network: torch.nn.Module, window: int) -> torch.Tensor:
    """Logits, in cubes that overlap by half, their middles weighing more than their edges."""
    size = (window,) * 3
    logits: torch.Tensor = sliding_window_inference(volume, size, 1, network, overlap=0.5, mode="gaussian")
    return logits


def _tidy(mask: np.ndarray[Any, Any], fewest_voxels: float) -> np.ndarray[Any, Any]:
    """Holes filled, crumbs dropped."""
    labels, _ = ndimage.label(ndimage.binary_fill_holes(mask))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    # A tumour may have satellites; a crumb a twentieth of it is more often a vessel or a patch of noise.
    return np.asarray((sizes >= max(fewest_voxels, sizes.max() / 20, 1))[labels])


def _entropy(probability: np.ndarray[Any, Any]) -> float:
    """Mean of -p log2 p - (1 - p) log2 (1 - p)."""
    p = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
    return float(np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p)))
