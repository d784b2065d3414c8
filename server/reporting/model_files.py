"""model_files: the files of a finished study's classifier, written whole or not at all.  `fedmidline-site score` and
a study that goes on from it read them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.messages.model_files import to_files
from server.state import StudyState

__all__ = ["about_model", "write_model"]


def about_model(state: StudyState) -> dict[str, Any]:
    """What stands beside the numbers; split: under which a later study keeps test cases apart."""
    protocol = state.protocol
    return {
        "study": state.study,
        "status": state.status(),
        "protocol_fingerprint": protocol.fingerprint(),
        "feature_fingerprint": protocol.feature_fingerprint(),
        "split": {"seed": protocol.seed, "test_fraction": protocol.split.test_fraction},
        "head": protocol.head.model_dump(mode="json"),
        "classes": ["altered", "not_altered"],
        "research_use_only": True,
    }


def write_model(folder: Path, state: StudyState) -> None:
    """model.safetensors and model.json, each beside and then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in to_files(state.model(), about_model(state)).items():
        beside = folder / f".{name}.new"
        beside.write_bytes(data)
        beside.replace(folder / name)
