"""weights: the network's numbers, from safetensors (which cannot carry code), checked by SHA-256."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load
from torch import nn

from common.config.segmentation import SegmentationSettings
from common.errors import ConfigError
from common.networks.unet import build_unet

__all__ = ["load_network"]

FOLDER = Path(__file__).parent / "weights"


def load_network(settings: SegmentationSettings, *, device: str) -> nn.Module:
    """The network in evaluation mode; ConfigError when the file is missing or another."""
    return _load(settings.weights, settings.weights_sha256, device)


@lru_cache(2)
def _load(name: str, wanted: str, device: str) -> nn.Module:
    path = FOLDER / f"{name}.safetensors"
    card = path.with_suffix(".json")
    if not path.exists() or not card.exists():
        raise _fault("weights-missing", "The segmentation network's weights are not installed.", name)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != json.loads(card.read_text())["sha256"] or (wanted and found != wanted):
        raise _fault("weights-differ", "The segmentation network's weights are not the protocol's.", name)
    network = build_unet()
    network.load_state_dict({key: value.to(torch.float32) for key, value in load(data).items()})
    return network.to(device).eval()


def _fault(code: str, problem: str, name: str) -> ConfigError:
    return ConfigError(
        code,
        field="segmentation.weights",
        problem=problem,
        fix="Train them with `fedmidline-sim segmenter`, install the study's file, or import masks.",
        local=name,
    )
