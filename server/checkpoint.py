"""checkpoint: the study's state in one file, replaced atomically; no pickle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from common.disk_faults import disk_faults
from common.errors import InputError
from common.messages.plain import from_plain, to_plain
from server.state import StudyState

__all__ = ["CHECKPOINT", "load_checkpoint", "save_checkpoint"]

CHECKPOINT = "checkpoint.npz"
"""Its name, beside study.yaml."""

_TEXT = "__state__"


def save_checkpoint(path: Path, state: StudyState) -> None:
    """Write beside, then rename: a crash leaves the old file or the new one, never half of one.

    InputError `disk-full`, `folder-read-only`: the study stands where the last checkpoint left it.
    """
    text, arrays = to_plain(state)
    stored: dict[str, Any] = {_TEXT: np.frombuffer(text.encode(), np.uint8), **arrays}
    beside = path.with_suffix(".new")
    with disk_faults("checkpoint"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.savez(file, **stored)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)


def load_checkpoint(path: Path) -> StudyState:
    """Read a state; InputError if the file is not one."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        text = arrays.pop(_TEXT).tobytes().decode()
        return from_plain(StudyState, text, arrays)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "checkpoint-unreadable",
            problem="The study's checkpoint cannot be read.",
            fix="Start the study in a new folder, or restore the file from a backup.",
            local=f"{path}: {error}",
        ) from None
