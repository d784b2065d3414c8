"""weights: the network's numbers, from safetensors (which cannot carry code), checked by SHA-256.

A file NAME.safetensors has a card NAME.json beside it: its SHA-256, and the network that it is the weights of.  A site's
own files (imported, or trained here) lie in its cache; the shipped ones beside this module.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load
from torch import nn

from client.disk import write_whole
from common.config.protocol import Protocol
from common.config.segmentation import WEIGHTS_NAME, NetworkSettings, SegmentationSettings
from common.errors import ConfigError
from common.networks.segmentation_network import SegmentationNetwork
from common.networks.unet import build_unet

__all__ = ["install_weights", "load_network", "load_visual_network", "network_of", "require_name", "weights_sha256"]

FOLDER = Path(__file__).parent / "weights"

Arrays = Mapping[str, np.ndarray[Any, Any]]


def load_network(settings: SegmentationSettings, *, device: str, installed: Path | None = None) -> nn.Module:
    """The network in evaluation mode; `installed`: the site's own folder, looked through first.

    ConfigError `weights-missing`, `weights-differ` (not the protocol's), `weights-of-another-network`.
    """
    path = _find(settings.weights, installed)
    card = _read_card(path)
    found = _checked_sha256(path, card, settings.weights_sha256)
    told, wanted = card.get("network"), settings.network.model_dump(mode="json")
    if told is not None and told != wanted:
        told = told if isinstance(told, dict) else {}
        differing = sorted(key for key in {*told, *wanted} if told.get(key) != wanted.get(key))
        raise _other_network(settings.weights, ", ".join(differing))
    return _load(path, found, settings.network.model_dump_json(), device, settings.weights)


def load_visual_network(protocol: Protocol, *, device: str, installed: Path | None = None) -> nn.Module:
    """The network whose map is the visual features: the segmentation's own, or the shipped two-dimensional one."""
    if protocol.visual.variant == "unet2d":
        return _load_flat(protocol.visual.flat_weights, device)
    return load_network(protocol.segmentation, device=device, installed=installed)


def weights_sha256(settings: SegmentationSettings, installed: Path | None = None) -> str:
    """Of the file that `load_network` takes."""
    return hashlib.sha256(_find(settings.weights, installed).read_bytes()).hexdigest()


def install_weights(weights: Arrays, network: NetworkSettings, folder: Path, name: str, card: dict[str, Any]) -> str:
    """Write NAME.safetensors and its card into a site's folder, each whole; returns the SHA-256.

    ConfigError `weights-name`.
    """
    require_name(name)
    data = save({key: np.ascontiguousarray(value, np.float32) for key, value in weights.items()})
    sha256 = hashlib.sha256(data).hexdigest()
    text = json.dumps({**card, "network": network.model_dump(mode="json"), "sha256": sha256}, indent=1)
    write_whole(folder / f"{name}.json", text.encode())
    write_whole(folder / f"{name}.safetensors", data)
    return sha256


def require_name(name: str) -> None:
    """ConfigError `weights-name` when it is none that a protocol could write."""
    if not re.fullmatch(WEIGHTS_NAME, name):
        raise ConfigError(
            "weights-name",
            field="name",
            problem="The name of the weights has other signs than letters, digits, dot, hyphen and underscore.",
            fix="Choose a plain name, e.g. our-unet.",
        )


def network_of(weights: Arrays, settings: NetworkSettings, *, name: str) -> SegmentationNetwork:
    """The network with these weights, in evaluation mode; ConfigError `weights-of-another-network` names a layer."""
    network = SegmentationNetwork(settings)
    wanted = network.core.state_dict()
    for key in [*wanted, *weights]:
        if key not in wanted or key not in weights or tuple(wanted[key].shape) != tuple(weights[key].shape):
            raise _other_network(name, f"layer {key}")
    network.core.load_state_dict({key: torch.from_numpy(np.array(weights[key], np.float32)) for key in wanted})
    return network.eval()


def _find(name: str, installed: Path | None) -> Path:
    for folder in (installed, FOLDER):
        path = None if folder is None else folder / f"{name}.safetensors"
        if path is not None and path.exists() and path.with_suffix(".json").exists():
            return path
    raise _fault("weights-missing", "The network's weights are not installed.", name)


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        card = None
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise _fault("weights-unreadable", "The card beside the weights is damaged.", path.stem)
    return card


def _checked_sha256(path: Path, card: dict[str, Any], wanted: str) -> str:
    """Of the file; ConfigError `weights-differ` unless the card, and the protocol where it names one, say the same."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != card["sha256"] or (wanted and found != wanted):
        raise _fault("weights-differ", "The network's weights are not the protocol's.", path.stem)
    return found


@lru_cache(2)
def _load(path: Path, sha256: str, settings: str, device: str, name: str) -> nn.Module:
    """Cached by what is in the file, not by its name alone."""
    del sha256
    wanted = SegmentationSettings.model_validate({"network": json.loads(settings)}).network
    return network_of(_read(path, name), wanted, name=name).to(device)


@lru_cache(1)
def _load_flat(name: str, device: str) -> nn.Module:
    path = _find(name, None)
    _checked_sha256(path, _read_card(path), "")
    network = build_unet(2)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in _read(path, name).items()})
    return network.to(device).eval()


def _read(path: Path, name: str) -> dict[str, np.ndarray[Any, Any]]:
    """float32, by name."""
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError, OverflowError):
        raise _fault("weights-unreadable", "The file of weights is damaged.", name) from None
    return {key: value.to(torch.float32).numpy() for key, value in tensors.items()}


def _other_network(name: str, where: str) -> ConfigError:
    return ConfigError(
        "weights-of-another-network",
        field="segmentation.network",
        problem=f"The weights are of another network than the protocol's; they differ in {where}.",
        fix="Copy the block `segmentation` that `fedmidline-site segment import` or `train` printed into the protocol.",
        local=name,
    )


def _fault(code: str, problem: str, name: str) -> ConfigError:
    return ConfigError(
        code,
        field="segmentation.weights or visual.flat_weights",
        problem=problem,
        fix="Install the study's file with `fedmidline-site segment import`, train weights, or import masks.",
        local=name,
    )
