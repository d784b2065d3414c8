"""segmentation_files: the finished segmentation network as a study publishes it: NAME.safetensors, which cannot carry code,
its card NAME.json, and how well it drew at each site.  `fedmidline-site segment import` takes the first two.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from server.state import StudyState

__all__ = ["segmentation_figures", "write_segmentation"]


def write_segmentation(folder: Path, state: StudyState) -> Path:
    """The weights under the study's name, the card, and figures.json; each beside and then renamed.

    Returns the path of the weights.
    """
    data = save({name: np.ascontiguousarray(weight, np.float32) for name, weight in state.weights.items()})
    card = {
        "what": "whole-tumour network of a federated study; research use only",
        "study": state.study,
        "status": state.status(),
        "protocol_fingerprint": state.protocol.fingerprint(),
        "cases": sum(sum(reply.training_cases) for reply in state.qualified.values()),
        "rounds": state.rounds_done,
        "voxel_mm": state.protocol.segmentation.working_mm,
        "network": state.protocol.segmentation.network.model_dump(mode="json"),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{state.study}.safetensors"
    figures = folder / "figures.json"
    for target, content in (
        (figures, _text(segmentation_figures(state))),
        (path.with_suffix(".json"), _text(card)),
        (path, data),
    ):
        beside = target.with_name(f".{target.name}.new")
        beside.write_bytes(content)
        beside.replace(target)
    return path


def segmentation_figures(state: StudyState) -> dict[str, Any]:
    """Dice and HD95 by site and over all test cases, and the loss of every round."""
    return {
        "study": state.study,
        "status": state.status(),
        "mean_dice": state.mean_dice(),
        "sites": {
            site: reply.model_dump(exclude={"site", "schema_version"}) for site, reply in state.segmentation.items()
        },
        "losses": [exchange.loss for exchange in state.exchanges if exchange.loss is not None],
    }


def _text(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()
