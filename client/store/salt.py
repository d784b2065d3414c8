"""salt: the site's secret of 32 bytes, from which its pseudonyms are made; whoever has it can test a guessed name."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from client.disk import disk_faults
from common.errors import InputError

__all__ = ["site_salt"]


def site_salt(folder: Path) -> bytes:
    """Read `salt`, or draw it once; only this account may read the file.

    InputError `salt-invalid` for a file of another length: pseudonyms made with a new one would match no old ones.
    """
    path = folder / "salt"
    with disk_faults("cache"):
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            # The workers of one preparation all ask at once; the lock keeps a second from reading a file still empty.
            fcntl.flock(file, fcntl.LOCK_EX)
            salt = file.read()
            if not salt:
                salt = secrets.token_bytes(32)
                file.write(salt)
                file.flush()
    if len(salt) != 32:
        raise InputError(
            "salt-invalid",
            field="cache",
            problem="The site's salt file is damaged.",
            fix="Restore it from a backup, or delete it together with the manifest's pseudonyms.",
        )
    return salt
