"""bundle: read a MONAI bundle of the layout brats_mri_segmentation: configs/metadata.json, configs/inference.json, models/model.pt.

A bundle's configuration is a program to MONAI (`$...` is evaluated, `_target_` names any class); here it is data: the
network's block is read, its class must be on a list of one, and nothing is ever evaluated.  model.pt is opened as
tensors only, after its SHA-256 has been compared.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from client.segment.weights import network_of
from common.config.segmentation import SegResNetSettings
from common.errors import ConfigError, InputError

__all__ = ["Bundle", "read_bundle"]

NETWORKS = ("SegResNet", "monai.networks.nets.SegResNet")
TAKEN = {"blocks_down", "blocks_up", "init_filters"}
KNOWN = TAKEN | {"_target_", "in_channels", "out_channels", "dropout_prob", "spatial_dims"}
SEQUENCES = {"t1": "t1", "t1w": "t1", "t1c": "t1ce", "t1ce": "t1ce", "t1gd": "t1ce", "t2": "t2", "t2w": "t2", "flair": "flair"}  # fmt: skip
WHOLE_TUMOUR = ("whole tumor", "whole tumour", "wt")
HARMLESS = {"LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "ToTensord", "Orientationd"}
NORMALISE = "NormalizeIntensityd"


@dataclass(frozen=True)
class Bundle:
    """network: as a protocol writes it; weights: float32, by MONAI's names; sha256: of model.pt; version: the bundle's."""

    network: SegResNetSettings
    weights: dict[str, np.ndarray[Any, Any]]
    sha256: str
    version: str


def read_bundle(folder: Path, *, sha256: str) -> Bundle:
    """InputError or ConfigError, each with one code:

    bundle-incomplete, bundle-differs (SHA-256), bundle-network (class or setting that is not honoured),
    bundle-channels (sequences, outputs, counts), bundle-preprocessing (other than z-scores of the voxels that are not
    zero, which is what the prepared images are), bundle-carries-code, weights-of-another-network.
    """
    metadata, inference = (_read_json(folder / "configs" / f"{name}.json") for name in ("metadata", "inference"))
    network = _network(inference, metadata)
    _require_zscores(inference)
    path = folder / "models" / "model.pt"
    if not path.is_file():
        raise _fault("bundle-incomplete", "models/model.pt", "The bundle has no weights.", "Copy the whole bundle.")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise _fault(
            "bundle-differs",
            "models/model.pt",
            "The SHA-256 of the bundle's weights is not the one given.",
            "Compare with the publisher's number; a file that differs is damaged or was tampered with.",
        )
    weights = _weights(data)
    network_of(weights, network, name=folder.name)
    return Bundle(network, weights, found, str(metadata.get("version", "")))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _fault(
            "bundle-incomplete",
            f"configs/{path.name}",
            "A file of the bundle is missing or is not JSON.",
            "Copy the whole bundle, with configs/metadata.json, configs/inference.json and models/model.pt.",
            str(error),
        ) from None
    if not isinstance(content, dict):
        raise _fault("bundle-incomplete", f"configs/{path.name}", "A file of the bundle is no object.", "Copy it anew.")
    return content


def _network(inference: dict[str, Any], metadata: dict[str, Any]) -> SegResNetSettings:
    block = inference.get("network_def", inference.get("network"))
    if not isinstance(block, dict) or block.get("_target_") not in NETWORKS:
        raise _fault(
            "bundle-network",
            "network_def",
            "The bundle's network is not a SegResNet written out as numbers.",
            "Only bundles of the layout brats_mri_segmentation are read; nothing in a bundle is evaluated.",
        )
    strange = sorted(set(block) - KNOWN) or [k for k, v in block.items() if k != "_target_" and not _is_number(v)]
    if strange or block.get("spatial_dims", 3) != 3:
        raise _fault(
            "bundle-network",
            ", ".join(f"network_def.{key}" for key in strange) or "network_def.spatial_dims",
            "The bundle's network has settings that are not honoured here.",
            "Use a bundle whose network_def holds only blocks, filters, channels and drop-out.",
        )
    inputs, outputs = (_channels(metadata, *place) for place in (("inputs", "image"), ("outputs", "pred")))
    if (len(inputs), len(outputs)) != (block.get("in_channels"), block.get("out_channels")):
        raise _channel_fault("num_channels", "Network and metadata name different numbers of channels.")
    sequences = [SEQUENCES.get(name, "") for name in inputs]
    whole = [number for number, name in enumerate(outputs) if name in WHOLE_TUMOUR]
    if not all(sequences) or len(whole) != 1:
        raise _channel_fault("channel_def", "A channel is no sequence known here, or none is the whole tumour.")
    try:
        return SegResNetSettings.model_validate({
            "architecture": "segresnet",
            "inputs": sequences,
            "outputs": len(outputs),
            "whole_tumour": whole[0],
            **{key: block[key] for key in TAKEN & set(block)},
        })  # fmt: skip
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
        raise _fault(
            "bundle-network", fields, "The bundle's network is outside the family.", "See segmentation.network."
        ) from None


def _channels(metadata: dict[str, Any], side: str, name: str) -> list[str]:
    """Names in the order of the channels, in small letters."""
    try:
        told = metadata["network_data_format"][side][name]
        names = [str(told["channel_def"][str(number)]).lower() for number in range(int(told["num_channels"]))]
    except (KeyError, TypeError, ValueError):
        raise _channel_fault(f"{side}.{name}", "The metadata does not name every channel.") from None
    if len(names) != len(told["channel_def"]):
        raise _channel_fault(f"{side}.{name}", "The metadata names more channels than it counts.")
    return names


def _require_zscores(inference: dict[str, Any]) -> None:
    steps = inference.get("preprocessing", {})
    transforms = steps.get("transforms", []) if isinstance(steps, dict) else []
    names = [str(step.get("_target_", "")).rpartition(".")[2] if isinstance(step, dict) else "" for step in transforms]
    scores = [step for step, name in zip(transforms, names, strict=True) if name == NORMALISE]
    as_ours = len(scores) == 1 and all(scores[0].get(key) is True for key in ("nonzero", "channel_wise"))
    plain = as_ours and not any(key in scores[0] for key in ("subtrahend", "divisor"))
    if not plain or not set(names) <= HARMLESS | {NORMALISE}:
        raise _fault(
            "bundle-preprocessing",
            "preprocessing",
            "The bundle wants other intensities than z-scores of each channel's voxels that are not zero.",
            "Only that normalisation is honoured; it is what the prepared images hold.",
        )


def _weights(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # torch's reader of what is no pickle ends in a dozen ways
        raise _fault(
            "bundle-carries-code",
            "models/model.pt",
            "The bundle's weights hold more than tensors, or cannot be read; they were not opened.",
            "Ask the publisher for weights saved as a state dictionary.",
            type(error).__name__,
        ) from None
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise _fault("bundle-incomplete", "models/model.pt", "The file holds no state dictionary.", "Save one.")
    arrays = {str(key): value.to(torch.float32).numpy() for key, value in content.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise _fault("bundle-incomplete", "models/model.pt", "The weights hold NaN or infinity.", "Copy the file anew.")
    return arrays


def _is_number(value: object) -> bool:
    """A number or a list of numbers; a text could be an expression."""
    return isinstance(value, int | float) or (isinstance(value, list) and all(isinstance(v, int) for v in value))


def _channel_fault(where: str, problem: str) -> ConfigError:
    return ConfigError(
        "bundle-channels",
        field=f"metadata.network_data_format: {where}",
        problem=problem,
        fix="The bundle's metadata must name its channels, T1CE and FLAIR among them, and one output `Whole tumor`.",
    )


def _fault(code: str, field: str, problem: str, fix: str, local: str = "") -> InputError:
    return InputError(code, field=field, problem=problem, fix=fix, local=local)
