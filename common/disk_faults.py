"""disk_faults: the system's words for a full or closed disk turned into the study's, on both sides of the wire."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import InputError

__all__ = ["disk_faults"]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def disk_faults(field: str) -> Iterator[None]:
    """InputError `disk-full`, `folder-read-only`; what else the system says passes."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise InputError(
                "disk-full",
                field=field,
                problem="The disk is full.",
                fix="Free space; the same command then goes on where it stopped.",
            ) from None
        if error.errno in CLOSED:
            raise InputError(
                "folder-read-only",
                field=field,
                problem="A folder cannot be written to.",
                fix="Give the account that runs this the right to write, or choose another folder.",
            ) from None
        raise
