"""visual: the network's deepest map of a cube around the tumour (METHOD R20, R21)."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from common.config.visual import VisualSettings
from common.networks.unet import deepest_map

__all__ = ["extract_visual"]


def extract_visual(
    t1ce: sitk.Image,
    flair: sitk.Image,
    mask: sitk.Image,
    settings: VisualSettings,
    *,
    network: torch.nn.Module,
    device: str,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Flat vector of `settings.length` values, channels first, then z, y, x.

    The cube has `crop_voxels` per edge at the images' own spacing, centred on the mask, zero where it
    leaves the image.
    """
    inside = sitk.GetArrayFromImage(mask) > 0
    centre = [round(float(c.mean())) for c in np.nonzero(inside)]
    cube = np.stack([_cut(sitk.GetArrayFromImage(image), centre, settings.crop_voxels) for image in (t1ce, flair)])
    if settings.outside == "zeroed":
        cube = cube * _cut(inside.astype(np.float32), centre, settings.crop_voxels)
    with torch.no_grad():
        features = deepest_map(network, torch.from_numpy(cube[None].astype(np.float32)).to(device))
    return np.ascontiguousarray(features.cpu().numpy().reshape(-1))


def _cut(volume: np.ndarray[Any, Any], centre: list[int], edge: int) -> np.ndarray[Any, Any]:
    """A cube of `edge` voxels around `centre`; beyond the image it is zero."""
    padded = np.pad(volume, edge // 2)
    return np.asarray(padded[tuple(slice(c, c + edge) for c in centre)])
