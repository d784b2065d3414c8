"""segmenter: train the U-Net on pairs of volumes and masks (Dice and cross-entropy)."""

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

from common.networks.unet import build_unet
from common.seeds import stream, stream_seed

__all__ = ["LabelledVolume", "train_segmenter", "whole_tumour_dice", "write_weights"]

PATCH = 64


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
    batch: int = 2,
    learning_rate: float = 2e-3,
    device: str = "cpu",
    progress: Callable[[int, float], None] = lambda _step, _loss: None,
) -> nn.Module:
    """AdamW with a cosine schedule on random cubes; two of three cubes hold tumour."""
    torch.manual_seed(stream_seed(seed, "segmenter"))
    rng = stream(seed, "segmenter", "patches")
    network = build_unet().to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 1e-5)
    objective = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
    for step in range(steps):
        cubes = [_patch(cases[int(rng.integers(len(cases)))], rng) for _ in range(batch)]
        images = torch.from_numpy(np.stack([c[0] for c in cubes])).to(device)
        masks = torch.from_numpy(np.stack([c[1] for c in cubes])).to(device)
        optimiser.zero_grad(set_to_none=True)
        loss = objective(network(images), masks)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(step + 1, float(loss))
    return network.eval()


def whole_tumour_dice(network: nn.Module, case: LabelledVolume, *, device: str = "cpu") -> float:
    """Dice of the network's mask (probability above one half) with the true one."""
    shape = case.mask.shape
    padded = np.pad(case.images, [(0, 0), *[(0, -n % 8) for n in shape]])
    with torch.no_grad():
        logits = network(torch.from_numpy(padded[None]).to(device))[0, 0].cpu().numpy()
    found = logits[tuple(slice(0, n) for n in shape)] > 0
    return float(2 * (found & case.mask).sum() / max(1, found.sum() + case.mask.sum()))


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


def _patch(case: LabelledVolume, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A cube of 64 voxels with random place, scale, flip and intensity."""
    edge = round(PATCH * rng.uniform(0.65, 1.2))
    if rng.random() < 2 / 3:
        centre = rng.permutation(np.argwhere(case.mask))[0] + rng.integers(-edge // 3, edge // 3, 3)
    else:
        centre = [int(rng.integers(n)) for n in case.mask.shape]
    images = np.stack([_cut(channel, centre, edge) for channel in case.images])
    mask = _cut(case.mask.astype(np.float32), centre, edge)
    images = np.stack([_resize(channel) for channel in images])
    mask = (_resize(mask) > 0.5)[None].astype(np.float32)
    if rng.random() < 0.5:
        images, mask = images[..., ::-1], mask[..., ::-1]  # left and right only: up is up
    brain = images != 0
    gain = np.exp(rng.normal(0, 0.15, (2, 1, 1, 1)))
    shift = rng.normal(0, 0.15, (2, 1, 1, 1))
    noise = rng.normal(0, rng.uniform(0, 0.12), images.shape)
    images = np.where(brain, images * gain + shift + noise, 0)
    return np.ascontiguousarray(images, np.float32), np.ascontiguousarray(mask)


def _cut(volume: np.ndarray[Any, Any], centre: Sequence[int], edge: int) -> np.ndarray[Any, Any]:
    """A cube around `centre`, zero beyond the volume."""
    cube = np.zeros((edge,) * 3, volume.dtype)
    low = [int(c) - edge // 2 for c in centre]
    source = tuple(slice(max(0, a), max(0, min(n, a + edge))) for a, n in zip(low, volume.shape, strict=True))
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(source, low, strict=True))
    if all(s.stop > s.start for s in source):
        cube[target] = volume[source]
    return cube


def _resize(volume: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """To exactly PATCH voxels per edge."""
    if volume.shape[0] == PATCH:
        return volume
    resized = ndimage.zoom(volume, PATCH / volume.shape[0], order=1)
    return np.asarray(resized[:PATCH, :PATCH, :PATCH])
