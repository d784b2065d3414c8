"""released: a finished classifier as a study publishes it (safetensors and JSON), applied and explained in plain numpy.

    hidden = ReLU(W v + b)        v: standardised visual features over the square root of their number
    margin = w . (hidden, r) + c  r: standardised signature; w, c: difference of the two logits' weights

The margin is the logit of the safety score; low means altered.  It is a sum, so each of its inputs (10 hidden units
and 19 radiomics features in the paper) has an exact contribution w_i x_i.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.visual_maps import VisualMaps
from common.config.modelling import HeadSettings
from common.errors import InputError
from common.messages.model import ModelState
from common.messages.model_files import ABOUT, NUMBERS, from_files
from common.networks.fused_head import CLASSES
from common.tables import FeatureTable

__all__ = ["Explained", "ReleasedModel", "explain", "read_released"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class ReleasedModel:
    """state: as it travels in a study; about: what stands beside it; sha256: of the file of numbers."""

    state: ModelState
    about: dict[str, Any]
    sha256: str


@dataclass(frozen=True, eq=False)
class Explained:
    """margins: (cases,); contributions: (cases, inputs) in the order of inputs, which with `constant` sum to the margins.

    radiomics_z: (cases, signature) standard deviations from the training mean; visual_z: (cases,) root mean square over
    the visual features, about 1 for a case like those trained on.
    """

    margins: Array
    inputs: tuple[str, ...]
    contributions: Array
    constant: float
    radiomics_z: Array
    visual_z: Array


def read_released(folder: Path) -> ReleasedModel:
    """model.safetensors and model.json; InputError `model-unreadable` or `model-incomplete`."""
    try:
        numbers, text = (folder / NUMBERS).read_bytes(), (folder / ABOUT).read_bytes()
    except OSError as error:
        raise _fault("model-unreadable", "The released model cannot be read.", f"{folder}: {error}") from None
    state, about = from_files(numbers, text, local=str(folder))
    return ReleasedModel(state, about, hashlib.sha256(numbers).hexdigest())


def explain(table: FeatureTable, visual: VisualMaps, model: ModelState, head: HeadSettings) -> Explained:
    """Score cases; visual: raw, one case in memory at a time.

    InputError `model-not-additive` for the paper's literal ReLU on the logits, which has no contributions.
    """
    if head.relu == "paper_literal":
        raise _fault("model-not-additive", "A ReLU on the logits leaves no contributions of inputs.", "head.relu")
    weights, length = model.weights, len(model.visual_mean)
    radiomics = (table.columns(model.signature).values - model.radiomics_mean) / model.radiomics_deviation
    if visual.length != length:
        raise _fault(
            "model-other-visual",
            f"The model wants {length} visual features, the cases have {visual.length}.",
            "visual",
        )
    hidden = np.empty((len(visual), len(weights["visual.bias"])))
    distance = np.empty(len(visual))
    for i, row in enumerate(visual):
        standardised = (row.astype(np.float32) - model.visual_mean) / model.visual_deviation
        hidden[i] = weights["visual.weight"] @ standardised / np.sqrt(max(length, 1)) + weights["visual.bias"]
        distance[i] = np.sqrt(np.mean(standardised.astype(np.float64) ** 2)) if length else 0.0
    if head.relu == "visual":
        hidden = np.maximum(hidden, 0)
    altered, other = CLASSES.index("altered"), CLASSES.index("not_altered")
    weight = weights["fusion.weight"].astype(np.float64)
    contributions = np.hstack([hidden, radiomics]) * (weight[other] - weight[altered])
    constant = float(weights["fusion.bias"][other]) - float(weights["fusion.bias"][altered])
    inputs = (*(f"visual unit {i + 1}" for i in range(hidden.shape[1])), *model.signature)
    return Explained(
        contributions.sum(axis=1) + constant,
        inputs,
        contributions,
        constant,
        radiomics,
        distance,
    )


def _fault(code: str, problem: str, local: str) -> InputError:
    return InputError(code, field="model", problem=problem, fix="Ask the study for the model it released.", local=local)
