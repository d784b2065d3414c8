"""disk: files that are there whole or not at all, and a full or read-only disk said in words."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError

__all__ = ["disk_faults", "write_array", "write_arrays", "write_whole"]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_whole(path: Path, data: bytes | memoryview, *, field: str = "cache", mode: int = 0o600) -> None:
    """Write beside, then rename; a process that is killed leaves a hidden file that the next call overwrites.

    InputError `disk-full`, `folder-read-only`.
    """
    with disk_faults(field):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


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


@contextmanager
def disk_faults(field: str) -> Iterator[None]:
    """Turn the system's words for a full or closed disk into the study's."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise InputError(
                "disk-full",
                field=field,
                problem="The disk is full.",
                fix="Free space (`fedmidline-site check` estimates the need); the same command goes on.",
            ) from None
        if error.errno in CLOSED:
            raise InputError(
                "folder-read-only",
                field=field,
                problem="A folder cannot be written to.",
                fix="Give the account that runs this the right to write, or choose another folder.",
            ) from None
        raise
