"""segment_import: bring weights into the site's folder: a study's file, or a MONAI bundle; and say what a protocol writes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from client.segment.bundle import read_bundle
from client.segment.weights import install_weights, network_of
from client.site import Site
from client.tasks.segment_train import installed_weights
from common.config.segmentation import NetworkSettings, SegmentationSettings
from common.errors import InputError

__all__ = ["ImportedWeights", "import_weights", "protocol_block"]

BUNDLE_MM = 1.0


@dataclass(frozen=True)
class ImportedWeights:
    """protocol: the block that a protocol must hold to use them."""

    file: Path
    source: str
    protocol: dict[str, Any]


def import_weights(site: Site, path: Path, *, name: str, sha256: str) -> ImportedWeights:
    """A folder is read as a MONAI bundle, whose SHA-256 must be given; a file as safetensors with its card beside it.

    Errors of `client.segment.bundle.read_bundle`, and `weights-unreadable`, `weights-differ`.
    """
    folder = installed_weights(site)
    if path.is_dir():
        bundle = read_bundle(path, sha256=sha256)
        card: dict[str, Any] = {
            "what": f"MONAI bundle, version {bundle.version or 'unknown'}; its own licence holds; research use only",
            "source_sha256": bundle.sha256,
            "voxel_mm": BUNDLE_MM,
        }
        installed = install_weights(bundle.weights, bundle.network, folder, name, card)
        block = protocol_block(bundle.network, name, installed, BUNDLE_MM)
        return ImportedWeights(folder / f"{name}.safetensors", "MONAI bundle", block)
    weights, network, card = _read_file(path, sha256)
    installed = install_weights(weights, network, folder, name, card)
    block = protocol_block(network, name, installed, card["voxel_mm"])
    return ImportedWeights(folder / f"{name}.safetensors", "safetensors", block)


def protocol_block(network: NetworkSettings, name: str, sha256: str, voxel_mm: float) -> dict[str, Any]:
    """What a protocol writes to use these weights."""
    segmentation = {
        "weights": name,
        "weights_sha256": sha256,
        "network": network.model_dump(mode="json"),
        "working_mm": voxel_mm,
    }
    return {"segmentation": segmentation, "visual": {"channels": network.deepest}}


def _read_file(path: Path, sha256: str) -> tuple[dict[str, Any], NetworkSettings, dict[str, Any]]:
    try:
        data, card = path.read_bytes(), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        weights = load(data)
        network = SegmentationSettings(network=card["network"], working_mm=card["voxel_mm"]).network
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ValidationError) as error:
        raise InputError(
            "weights-unreadable",
            field="weights",
            problem="The weights or the card beside them cannot be read.",
            fix="Copy NAME.safetensors and NAME.json together from the study's folder.",
            local=f"{path}: {type(error).__name__}",
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != card.get("sha256") or (sha256 and found != sha256.lower()):
        raise InputError(
            "weights-differ",
            field="sha256",
            problem="The SHA-256 of the weights is not the card's or not the one given.",
            fix="Copy the file anew; one that differs is damaged or was tampered with.",
        )
    network_of(weights, network, name=path.stem)
    told = {key: value for key, value in card.items() if key not in ("sha256", "network")}
    return weights, network, told
