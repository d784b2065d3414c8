"""segmenter: train the U-Net on pairs of volumes and masks (Dice and cross-entropy), in three dimensions or two."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from safetensors.torch import save
from scipy import ndimage
from torch import nn

from common.networks.unet import Dimensions, build_unet
from common.seeds import stream, stream_seed

__all__ = ["LabelledVolume", "train_segmenter", "whole_tumour_dice", "write_weights"]

PATCH: dict[Dimensions, int] = {3: 64, 2: 256}
"""Voxels per edge of what the network sees."""
FINER: dict[Dimensions, int] = {3: 1, 2: 4}
"""Pixels per voxel: two-dimensional features are taken from a slice enlarged four times."""


@dataclass(frozen=True)
class LabelledVolume:
    """images: (2, z, y, x) float32, z-scored in the brain, zero outside; mask: (z, y, x) bool."""

    images: np.ndarray[Any, Any]
    mask: np.ndarray[Any, Any]


def train_segmenter(
    cases: Sequence[LabelledVolume],
    *,
    steps: int,
    seed: int,
    dimensions: Dimensions = 3,
    batch: int = 2,
    learning_rate: float = 2e-3,
    device: str = "cpu",
    progress: Callable[[int, float], None] = lambda _step, _loss: None,
) -> nn.Module:
    """AdamW with a cosine schedule on random cubes, or on random squares of slices; two of three hold tumour."""
    torch.manual_seed(stream_seed(seed, "segmenter"))
    rng = stream(seed, "segmenter", "patches")
    network = build_unet(dimensions).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 1e-5)
    objective = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
    for step in range(steps):
        cubes = [_patch(cases[int(rng.integers(len(cases)))], rng, dimensions) for _ in range(batch)]
        images = torch.from_numpy(np.stack([c[0] for c in cubes])).to(device)
        masks = torch.from_numpy(np.stack([c[1] for c in cubes])).to(device)
        optimiser.zero_grad(set_to_none=True)
        loss = objective(network(images), masks)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(step + 1, loss.item())
    return network.eval()


def whole_tumour_dice(
    network: nn.Module, case: LabelledVolume, *, dimensions: Dimensions = 3, device: str = "cpu"
) -> float:
    """Dice of the network's mask (probability above one half) with the true one; in two dimensions that of the slice
    with most tumour.
    """
    images, mask = case.images, case.mask
    if dimensions == 2:
        place = int(mask.sum(axis=(1, 2)).argmax())
        images = np.stack([_resize(channel[place], FINER[2]) for channel in images])
        mask = _resize(mask[place].astype(np.float32), FINER[2]) > 0.5
    padded = np.pad(images, [(0, 0), *[(0, -n % 16) for n in mask.shape]])
    with torch.no_grad():
        logits = network(torch.from_numpy(padded[None]).to(device))[0, 0].cpu().numpy()
    found = logits[tuple(slice(0, n) for n in mask.shape)] > 0
    return float(2 * (found & mask).sum() / max(1, found.sum() + mask.sum()))


def write_weights(network: nn.Module, folder: Path, name: str, card: dict[str, Any]) -> Path:
    """Half precision safetensors and a card with its SHA-256; written beside, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({key: value.to(torch.float16).contiguous() for key, value in network.state_dict().items()})
    text = json.dumps({**card, "sha256": hashlib.sha256(data).hexdigest()}, indent=1)
    path = folder / f"{name}.safetensors"
    for target, content in ((path.with_suffix(".json"), text.encode()), (path, data)):
        beside = target.with_name(f".{target.name}.new")
        beside.write_bytes(content)
        beside.replace(target)
    return path


def _patch(
    case: LabelledVolume, rng: np.random.Generator, dimensions: Dimensions
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A cube, or a square of a slice, with random place, scale, flip and intensity."""
    size = PATCH[dimensions]
    edge = round(size / FINER[dimensions] * rng.uniform(0.65, 1.2))
    if rng.random() < 2 / 3:
        centre = rng.permutation(np.argwhere(case.mask))[0] + rng.integers(-edge // 3, edge // 3, 3)
    else:
        centre = [int(rng.integers(n)) for n in case.mask.shape]
    images = np.stack([_cut(channel, centre, edge, dimensions) for channel in case.images])
    mask = _cut(case.mask.astype(np.float32), centre, edge, dimensions)
    images = np.stack([_resize(channel, size / edge)[(slice(size),) * dimensions] for channel in images])
    mask = (_resize(mask, size / edge)[(slice(size),) * dimensions] > 0.5)[None].astype(np.float32)
    if rng.random() < 0.5:
        images, mask = images[..., ::-1], mask[..., ::-1]  # left and right only: up is up
    brain = images != 0
    gain = np.exp(rng.normal(0, 0.15, (2, *(1,) * dimensions)))
    shift = rng.normal(0, 0.15, (2, *(1,) * dimensions))
    noise = rng.normal(0, rng.uniform(0, 0.12), images.shape)
    images = np.where(brain, images * gain + shift + noise, 0)
    return np.ascontiguousarray(images, np.float32), np.ascontiguousarray(mask)


def _cut(
    volume: np.ndarray[Any, Any], centre: Sequence[int], edge: int, dimensions: Dimensions
) -> np.ndarray[Any, Any]:
    """A cube around `centre`, or its middle slice; zero beyond the volume."""
    cube = np.zeros((edge,) * 3, volume.dtype)
    low = [int(c) - edge // 2 for c in centre]
    source = tuple(slice(max(0, a), max(0, min(n, a + edge))) for a, n in zip(low, volume.shape, strict=True))
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(source, low, strict=True))
    if all(s.stop > s.start for s in source):
        cube[target] = volume[source]
    return cube[edge // 2] if dimensions == 2 else cube


def _resize(array: np.ndarray[Any, Any], factor: float) -> np.ndarray[Any, Any]:
    """So many times as many voxels per edge."""
    return array if factor == 1 else np.asarray(ndimage.zoom(array, factor, order=1))
