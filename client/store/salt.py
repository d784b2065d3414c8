"""salt: the site's secret of 32 bytes, from which its pseudonyms are made; whoever has it can test a guessed name."""

from __future__ import annotations

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
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            salt = path.read_bytes()
        else:
            salt = secrets.token_bytes(32)
            with os.fdopen(descriptor, "wb") as file:
                file.write(salt)
    if len(salt) != 32:
        raise InputError(
            "salt-invalid",
            field="cache",
            problem="The site's salt file is damaged.",
            fix="Restore it from a backup, or delete it together with the manifest's pseudonyms.",
        )
    return salt
