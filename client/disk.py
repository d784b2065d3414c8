"""disk: files that are there whole or not at all."""

from __future__ import annotations

import glob
import io
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from common.disk_faults import disk_faults

__all__ = ["write_array", "write_arrays", "write_whole"]

ABANDONED_S = 3600


def write_whole(path: Path, data: bytes | memoryview, *, field: str = "cache", mode: int = 0o600) -> None:
    """Write beside, then rename, each writer beside under a name of its own: hospitals of a simulation share a cache.

    What a process that was killed left there is taken away by a later call.

    InputError `disk-full`, `folder-read-only`.
    """
    with disk_faults(field):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _sweep(path: Path) -> None:
    """Nobody writes one file for an hour."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                left.unlink()


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """As .npy, through memory: numpy's own way to a file does not say that the disk was full."""
    packed = io.BytesIO()
    np.save(packed, array, allow_pickle=False)
    write_whole(path, packed.getbuffer())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """As .npz, likewise."""
    packed, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez(packed, **named)
    write_whole(path, packed.getbuffer())
