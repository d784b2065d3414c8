"""lock: one process at a time: a file lock that the operating system lets go when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import Refused

__all__ = ["hold_lock", "is_held"]


@contextmanager
def hold_lock(path: Path, *, what: str) -> Iterator[None]:
    """Hold it for the block; Refused `already-running` when another process does."""
    with path.open("a") as file:
        if not _try_for_a_while(file.fileno()):
            raise Refused(
                "already-running",
                problem=f"{what} is already running.",
                fix="Stop the other one first, or leave it at work.",
                local=f"process {path.read_text().strip() or 'unknown'} holds {path}",
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _try_for_a_while(descriptor: int) -> bool:
    """`is_held` takes the lock for an instant; that must not look like another holder."""
    for _ in range(10):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def is_held(path: Path) -> bool:
    """Does a living process hold it?"""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
