"""secret: 32 random bytes that the site draws once and keeps; only this account may read the file."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from common.disk_faults import disk_faults

__all__ = ["SECRET_BYTES", "kept_secret"]

SECRET_BYTES = 32


def kept_secret(path: Path) -> bytes:
    """Read the file, or draw it; its length is the caller's to check."""
    with disk_faults("cache"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            # The workers of one preparation all ask at once; the lock keeps a second from reading a file still empty.
            fcntl.flock(file, fcntl.LOCK_EX)
            secret = file.read()
            if not secret:
                secret = secrets.token_bytes(SECRET_BYTES)
                file.write(secret)
                file.flush()
    return secret
