"""checkpoint: the study's state in one file, replaced atomically; no pickle."""

from __future__ import annotations

import os
import struct
import tokenize
import zipfile
import zlib
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

UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, RecursionError, OverflowError),
    *(
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
        SyntaxError,
        struct.error,
        tokenize.TokenError,
    ),
)
"""How a damaged archive of arrays ends, in zipfile or in numpy."""


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
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        text = arrays.pop(_TEXT).tobytes().decode()
        return from_plain(StudyState, text, arrays)
    except UNREADABLE as error:
        raise InputError(
            "checkpoint-unreadable",
            problem="The study's checkpoint cannot be read.",
            fix="Start the study in a new folder, or restore the file from a backup.",
            local=f"{path}: {error}",
        ) from None
