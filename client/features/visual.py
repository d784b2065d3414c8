"""visual: the network's deepest map of a cube around the tumour, whole or in 256 numbers, or of one slice of it
(METHOD R20, R21, R49).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from common.catalogue import SEQUENCES
from common.config.visual import BOTTLENECK_CHANNELS, SLICE_FACTOR, VisualSettings
from common.errors import InputError
from common.networks.segmentation_network import deepest_map
from common.seeds import stream

__all__ = ["as_stored", "cut_out", "extract_visual", "project"]

Vector = np.ndarray[Any, np.dtype[np.float32]]

OUT = BOTTLENECK_CHANNELS


def extract_visual(
    t1ce: sitk.Image,
    flair: sitk.Image,
    mask: sitk.Image,
    settings: VisualSettings,
    *,
    network: torch.nn.Module,
    device: str,
) -> Vector:
    """Flat vector of `settings.length` values; the whole map is channels first, then z, y, x (y, x of a slice).

    The cube has `crop_voxels` per edge at the images' own spacing, centred on the mask, zero where it leaves the image.
    `unet2d` takes instead the axial slice with most tumour (the lowest of equals): a square of `crop_voxels` per edge,
    centred on the mask's part in it, enlarged `SLICE_FACTOR` times (bilinear).
    network: two-dimensional for `unet2d`.  InputError `roi-empty` or `visual-not-finite`.
    """
    if settings.variant == "none":
        return np.zeros(settings.length, np.float32)
    cut = cut_out(t1ce, flair, mask, settings)
    with torch.no_grad():
        seen = torch.from_numpy(cut[None]).to(device)
        if settings.variant == "unet2d":
            seen = torch.nn.functional.interpolate(seen, scale_factor=SLICE_FACTOR, mode="bilinear")
        deepest = deepest_map(network, seen)[0]
        if settings.variant == "pooled":
            deepest = deepest.mean(dim=(1, 2, 3))
    values = np.ascontiguousarray(deepest.cpu().numpy().reshape(-1))
    if settings.variant == "random_projection":
        values = project(values, settings.projection_seed)
    if not np.isfinite(values).all():
        raise InputError(
            "visual-not-finite",
            field="visual",
            problem="The network's map has NaN or infinite values.",
            fix="Check the images for NaN voxels.",
        )
    return values


def cut_out(t1ce: sitk.Image, flair: sitk.Image, mask: sitk.Image, settings: VisualSettings) -> Vector:
    """(2, edge, edge, edge) float32, or (2, edge, edge) of a slice: what the network sees of a case.

    InputError `roi-empty`.
    """
    inside = sitk.GetArrayViewFromImage(mask) > 0
    if not inside.any():
        raise InputError(
            "roi-empty", field="mask", problem="The mask has no voxel.", fix="Segment the tumour, or exclude the case."
        )
    part: Any = int(inside.sum(axis=(1, 2)).argmax()) if settings.variant == "unet2d" else slice(None)
    inside = inside[part]
    centre = [int(np.floor(c.mean() + 0.5)) for c in np.nonzero(inside)]
    images = [sitk.GetArrayViewFromImage(image)[part] for image in (t1ce, flair)]
    cut = np.stack([_cut(image, centre, settings.crop_voxels) for image in images]).astype(np.float32)
    if settings.outside == "zeroed":
        cut *= _cut(inside, centre, settings.crop_voxels)
    for channel, sequence in zip(cut, SEQUENCES, strict=True):
        if sequence not in settings.sequences:
            channel[:] = 0
    return cut


def as_stored(values: Vector, settings: VisualSettings) -> np.ndarray[Any, Any]:
    """In the precision of the protocol; InputError `visual-too-large` where half precision (65504) overflows.

    float16 keeps 11 bits: relative error at most 4.9e-4 of a value above 6.1e-5, absolute 3e-8 below.
    """
    kind = np.dtype(settings.dtype)
    if np.abs(values).max(initial=0) > np.finfo(kind).max:
        raise InputError(
            "visual-too-large",
            field="visual.dtype",
            problem=f"The network's map has values that {kind} cannot hold.",
            fix="Set visual.dtype to float32 in the protocol.",
        )
    return values.astype(kind)


def project(values: Vector, seed: int) -> Vector:
    """256 random mixtures that keep lengths and angles (Ailon and Chazelle 2009; Tropp 2011).

    Random signs, a Walsh-Hadamard transform, 256 of its coefficients: a random projection whose matrix of 256 x
    1,048,576 never has to exist.  E |result|^2 = |values|^2.
    """
    size = 1 << max(int(len(values) - 1).bit_length(), OUT.bit_length() - 1)
    rng = stream(seed, "visual", "projection", size)
    mixed = np.zeros(size, np.float32)
    mixed[: len(values)] = values
    mixed *= rng.integers(0, 2, size, dtype=np.int8).astype(np.float32) * 2 - 1
    chosen = rng.choice(size, OUT, replace=False)
    width = 1
    while width < size:  # butterflies: sums and differences of halves
        pair = mixed.reshape(-1, 2, width)
        mixed = np.stack([pair[:, 0] + pair[:, 1], pair[:, 0] - pair[:, 1]], axis=1)
        width *= 2
    return np.asarray(mixed.reshape(-1)[chosen] / np.float32(np.sqrt(OUT)))


def _cut(array: np.ndarray[Any, Any], centre: list[int], edge: int) -> np.ndarray[Any, Any]:
    """A cube or square of `edge` voxels around `centre`; beyond the image it is zero."""
    padded = np.pad(array, edge // 2)
    return np.asarray(padded[tuple(slice(c, c + edge) for c in centre)])
