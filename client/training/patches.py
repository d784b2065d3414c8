"""patches: random cubes of a labelled volume, for the segmentation network's training.

What a cube shows depends on the volume and the random stream alone, never on who holds the volume: a cube drawn at a
hospital is the cube that pooled training would draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["TrainingVolumes", "Volume", "draw_patch"]

Array = np.ndarray[Any, Any]

ON_TUMOUR = 2 / 3
SCALES = (0.75, 1.25)
GAIN, SHIFT, NOISE = 0.15, 0.15, 0.12


@dataclass(frozen=True)
class Volume:
    """images: (2, z, y, x) T1CE and FLAIR, z-scored in the brain, zero outside; mask: (z, y, x) bool, not empty."""

    images: Array
    mask: Array


@dataclass(frozen=True)
class TrainingVolumes:
    """A site's training cases; nothing else may be fitted.  names: pseudonyms, for the cases' own random streams."""

    volumes: tuple[Volume, ...]
    names: tuple[str, ...]


def draw_patch(volume: Volume, edge: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """(2, edge, edge, edge) and (1, edge, edge, edge), float32: random place, scale, side and intensity.

    Two of three cubes are near the tumour.
    """
    span = round(edge * rng.uniform(*SCALES))
    centre = _centre(volume.mask, span, rng)
    images = torch.from_numpy(np.stack([_cut(channel, centre, span) for channel in volume.images])[None])
    mask = torch.from_numpy(_cut(volume.mask, centre, span)[None, None])
    size = (edge,) * 3
    cube = torch.nn.functional.interpolate(images, size, mode="trilinear", align_corners=False)[0].numpy()
    label = torch.nn.functional.interpolate(mask, size, mode="trilinear", align_corners=False)[0].numpy() > 0.5
    if rng.random() < 0.5:
        cube, label = cube[..., ::-1], label[..., ::-1]  # left and right only: up is up
    gain = np.exp(rng.normal(0, GAIN, (2, 1, 1, 1)))
    shift = rng.normal(0, SHIFT, (2, 1, 1, 1))
    noise = rng.standard_normal(cube.shape, np.float32) * np.float32(rng.uniform(0, NOISE))
    seen = np.where(cube != 0, cube * gain + shift + noise, 0)  # outside the brain stays black
    return np.ascontiguousarray(seen, np.float32), np.ascontiguousarray(label, np.float32)


def _centre(mask: Array, span: int, rng: np.random.Generator) -> list[int]:
    if rng.random() >= ON_TUMOUR:
        return [int(rng.integers(n)) for n in mask.shape]
    inside = np.flatnonzero(mask)
    place = np.unravel_index(int(inside[rng.integers(len(inside))]), mask.shape)
    return [int(p + s) for p, s in zip(place, rng.integers(-(span // 3), span // 3 + 1, 3), strict=True)]


def _cut(volume: Array, centre: Sequence[int], edge: int) -> Array:
    """A cube around `centre` in float32, zero beyond the volume."""
    cube = np.zeros((edge,) * 3, np.float32)
    low = [c - edge // 2 for c in centre]
    source = tuple(slice(max(0, a), max(0, min(n, a + edge))) for a, n in zip(low, volume.shape, strict=True))
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(source, low, strict=True))
    if all(s.stop > s.start for s in source):
        cube[target] = volume[source]
    return cube
