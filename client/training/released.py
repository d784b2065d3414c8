"""released: a finished classifier as a study publishes it (safetensors and JSON), applied and explained in plain numpy.

    hidden = ReLU(W v + b)        v: standardised visual features over the square root of their number
    margin = w . (hidden, r) + c  r: standardised signature; w, c: difference of the two logits' weights

The margin is the logit of the safety score; low means altered.  It is a sum, so each of its inputs (10 hidden units
and 19 radiomics features in the paper) has an exact contribution w_i x_i.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from client.visual_maps import VisualMaps
from common.config.modelling import HeadSettings
from common.errors import InputError
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.networks.fused_head import CLASSES
from common.tables import FeatureTable

__all__ = ["Explained", "ReleasedModel", "explain", "read_released"]

Array = np.ndarray[Any, Any]
WEIGHTS = ("visual.weight", "visual.bias", "fusion.weight", "fusion.bias")
STATISTICS = ("radiomics_mean", "radiomics_deviation", "visual_mean", "visual_deviation")
ARRAYS = (*WEIGHTS, *STATISTICS)


@dataclass(frozen=True, eq=False)
class ReleasedModel:
    """arrays: by name as in `ARRAYS`; about: what stands beside them; sha256: of the file of numbers."""

    arrays: dict[str, Array]
    signature: tuple[str, ...]
    harmoniser: Harmoniser
    about: dict[str, Any]
    sha256: str

    def state(self) -> ModelState:
        """As it travels in a study."""
        return ModelState(
            harmoniser=self.harmoniser,
            weights={name: self.arrays[name] for name in WEIGHTS},
            signature=self.signature,
            radiomics_mean=self.arrays["radiomics_mean"],
            radiomics_deviation=self.arrays["radiomics_deviation"],
            visual_mean=self.arrays["visual_mean"],
            visual_deviation=self.arrays["visual_deviation"],
        )

    def with_state(self, state: ModelState) -> ReleasedModel:
        """A site's own form of it."""
        changed = {**state.weights, **{name: getattr(state, name) for name in STATISTICS}}
        return replace(self, arrays={**self.arrays, **changed})


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
        data = (folder / "model.safetensors").read_bytes()
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        arrays = load(data)
    except (OSError, ValueError, SafetensorError) as error:
        raise _fault("model-unreadable", "The released model cannot be read.", f"{folder}: {error}") from None
    missing = [name for name in ARRAYS if name not in arrays]
    signature = about.get("signature") if isinstance(about, dict) else None
    if missing or not isinstance(signature, list) or len(signature) != len(arrays["radiomics_mean"]):
        raise _fault("model-incomplete", "The released model lacks parts.", ", ".join(missing) or "signature")
    return ReleasedModel(arrays, tuple(signature), _harmoniser(arrays, about), about, hashlib.sha256(data).hexdigest())


def _harmoniser(arrays: dict[str, Array], about: dict[str, Any]) -> Harmoniser:
    """What the features go through first; nothing where the model does not say."""
    parts = {name.removeprefix("harmoniser."): a for name, a in arrays.items() if name.startswith("harmoniser.")}
    try:
        return Harmoniser.model_validate({**parts, **about.get("harmoniser", {})})
    except ValidationError as error:
        raise _fault("model-incomplete", "The released model's harmoniser lacks parts.", str(error)) from None


def explain(table: FeatureTable, visual: VisualMaps, model: ReleasedModel, head: HeadSettings) -> Explained:
    """Score cases; visual: raw, one case in memory at a time.

    InputError `model-not-additive` for the paper's literal ReLU on the logits, which has no contributions.
    """
    if head.relu == "paper_literal":
        raise _fault("model-not-additive", "A ReLU on the logits leaves no contributions of inputs.", "head.relu")
    parts = model.arrays
    radiomics = (table.columns(model.signature).values - parts["radiomics_mean"]) / parts["radiomics_deviation"]
    if visual.length != len(parts["visual_mean"]):
        raise _fault(
            "model-other-visual",
            f"The model wants {len(parts['visual_mean'])} visual features, the cases have {visual.length}.",
            "visual",
        )
    hidden = np.empty((len(visual), len(parts["visual.bias"])))
    distance = np.empty(len(visual))
    for i, row in enumerate(visual):
        standardised = (row.astype(np.float32) - parts["visual_mean"]) / parts["visual_deviation"]
        hidden[i] = parts["visual.weight"] @ standardised / np.sqrt(max(visual.length, 1)) + parts["visual.bias"]
        distance[i] = np.sqrt(np.mean(standardised.astype(np.float64) ** 2)) if visual.length else 0.0
    if head.relu == "visual":
        hidden = np.maximum(hidden, 0)
    altered, other = CLASSES.index("altered"), CLASSES.index("not_altered")
    weight = parts["fusion.weight"].astype(np.float64)
    contributions = np.hstack([hidden, radiomics]) * (weight[other] - weight[altered])
    constant = float(parts["fusion.bias"][other]) - float(parts["fusion.bias"][altered])
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
