"""model_files: a finished classifier as a study publishes it: numbers in safetensors, which cannot carry code, and
what they mean in JSON beside them.  Both sides read it; whoever calls does the reading and writing of files.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from common.errors import InputError
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState

__all__ = ["ABOUT", "NUMBERS", "from_files", "to_files"]

NUMBERS, ABOUT = "model.safetensors", "model.json"
"""Names of the two files."""
HARMONISER = ("alpha", "beta", "variance", "varies", "gamma", "delta")
STATISTICS = ("radiomics_mean", "radiomics_deviation", "visual_mean", "visual_deviation")
LEARNED = "encoder."
"""Arrays of an encoder that has learned (common/networks/first_weights.py)."""
WEIGHTS = ("visual.weight", "visual.bias", "fusion.weight", "fusion.bias")


def to_files(model: ModelState, about: dict[str, Any]) -> dict[str, bytes]:
    """Content by file name; about: what else there is to say of the model."""
    harmoniser = model.harmoniser
    arrays = {
        **model.weights,
        **{name: getattr(model, name) for name in STATISTICS},
        **{f"harmoniser.{name}": np.ascontiguousarray(getattr(harmoniser, name)) for name in HARMONISER},
    }
    told = {
        **about,
        "signature": model.signature,
        "harmoniser": {"method": harmoniser.method, "shared": harmoniser.shared, "cases": harmoniser.cases},
    }
    return {NUMBERS: save(arrays), ABOUT: json.dumps(told, indent=1).encode()}


def from_files(numbers: bytes, text: bytes, *, local: str) -> tuple[ModelState, dict[str, Any]]:
    """The model and what stands beside it; InputError `model-unreadable` or `model-incomplete`.

    local: where the files lie, for the error's local face.
    """
    try:
        about, arrays = json.loads(text), load(numbers)
    except (ValueError, SafetensorError) as error:
        raise _fault("model-unreadable", "The released model cannot be read.", f"{local}: {error}") from None
    missing = [name for name in (*WEIGHTS, *STATISTICS) if name not in arrays]
    signature = about.get("signature") if isinstance(about, dict) else None
    if missing or not isinstance(signature, list) or len(signature) != len(arrays["radiomics_mean"]):
        raise _fault("model-incomplete", "The released model lacks parts.", ", ".join(missing) or "signature")
    model = ModelState(
        harmoniser=_harmoniser(arrays, about),
        weights={name: array for name, array in arrays.items() if name in WEIGHTS or name.startswith(LEARNED)},
        signature=tuple(signature),
        radiomics_mean=arrays["radiomics_mean"],
        radiomics_deviation=arrays["radiomics_deviation"],
        visual_mean=arrays["visual_mean"],
        visual_deviation=arrays["visual_deviation"],
    )
    return model, about


def _harmoniser(arrays: dict[str, np.ndarray[Any, Any]], about: dict[str, Any]) -> Harmoniser:
    """What the features go through first; nothing where the model does not say."""
    parts = {name.removeprefix("harmoniser."): a for name, a in arrays.items() if name.startswith("harmoniser.")}
    try:
        return Harmoniser.model_validate({**parts, **about.get("harmoniser", {})})
    except ValidationError as error:
        raise _fault("model-incomplete", "The released model's harmoniser lacks parts.", str(error)) from None


def _fault(code: str, problem: str, local: str) -> InputError:
    return InputError(code, field="model", problem=problem, fix="Ask the study for the model it released.", local=local)
