"""model_files: the finished classifier as a study publishes it: numbers in safetensors, which cannot carry code, and
what they mean in JSON beside them.  `fedmidline-site score` reads both.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from server.state import StudyState

__all__ = ["write_model"]

HARMONISER = ("alpha", "beta", "variance", "varies", "gamma", "delta")


def write_model(folder: Path, state: StudyState) -> None:
    """model.safetensors and model.json, each beside and then renamed."""
    model = state.model()
    harmoniser = model.harmoniser
    arrays = {
        **model.weights,
        "radiomics_mean": model.radiomics_mean,
        "radiomics_deviation": model.radiomics_deviation,
        "visual_mean": model.visual_mean,
        "visual_deviation": model.visual_deviation,
        **{f"harmoniser.{name}": np.ascontiguousarray(getattr(harmoniser, name)) for name in HARMONISER},
    }
    about = {
        "study": state.study,
        "status": state.status(),
        "protocol_fingerprint": state.protocol.fingerprint(),
        "signature": model.signature,
        "harmoniser": {"method": harmoniser.method, "shared": harmoniser.shared, "cases": harmoniser.cases},
        "classes": ["altered", "not_altered"],
        "research_use_only": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (("model.safetensors", save(arrays)), ("model.json", json.dumps(about, indent=1).encode())):
        beside = folder / f".{name}.new"
        beside.write_bytes(data)
        beside.replace(folder / name)
