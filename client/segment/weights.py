"""weights: the networks' numbers, from safetensors (which cannot carry code), checked by SHA-256."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load
from torch import nn

from common.config.protocol import Protocol
from common.config.segmentation import SegmentationSettings
from common.errors import ConfigError
from common.networks.unet import Dimensions, build_unet

__all__ = ["load_network", "load_visual_network"]

FOLDER = Path(__file__).parent / "weights"


def load_network(settings: SegmentationSettings, *, device: str) -> nn.Module:
    """The network in evaluation mode; ConfigError when the file is missing or another."""
    return _load(settings.weights, settings.weights_sha256, 3, device)


def load_visual_network(protocol: Protocol, *, device: str) -> nn.Module:
    """The network whose map is the visual features: the segmentation's own, or the two-dimensional one."""
    if protocol.visual.variant == "unet2d":
        return _load(protocol.visual.flat_weights, "", 2, device)
    return load_network(protocol.segmentation, device=device)


@lru_cache(2)
def _load(name: str, wanted: str, dimensions: Dimensions, device: str) -> nn.Module:
    path = FOLDER / f"{name}.safetensors"
    card = path.with_suffix(".json")
    if not path.exists() or not card.exists():
        raise _fault("weights-missing", "The network's weights are not installed.", name, dimensions)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != json.loads(card.read_text())["sha256"] or (wanted and found != wanted):
        raise _fault("weights-differ", "The network's weights are not the protocol's.", name, dimensions)
    network = build_unet(dimensions)
    network.load_state_dict({key: value.to(torch.float32) for key, value in load(data).items()})
    return network.to(device).eval()


def _fault(code: str, problem: str, name: str, dimensions: Dimensions) -> ConfigError:
    flat = dimensions == 2
    return ConfigError(
        code,
        field="visual.flat_weights" if flat else "segmentation.weights",
        problem=problem,
        fix=f"Train them with `fedmidline-sim segmenter{' --flat' if flat else ''}`, install the study's file, or "
        + ("choose another visual.variant." if flat else "import masks."),
        local=name,
    )
