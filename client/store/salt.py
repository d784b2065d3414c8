"""salt: the site's secret of 32 bytes, from which its pseudonyms are made; whoever has it can test a guessed name."""

from __future__ import annotations

from pathlib import Path

from client.store.secret import SECRET_BYTES, kept_secret
from common.errors import InputError

__all__ = ["site_salt"]


def site_salt(folder: Path) -> bytes:
    """Read `salt`, or draw it once; only this account may read the file.

    InputError `salt-invalid` for a file of another length: pseudonyms made with a new one would match no old ones.
    """
    salt = kept_secret(folder / "salt")
    if len(salt) != SECRET_BYTES:
        raise InputError(
            "salt-invalid",
            field="cache",
            problem="The site's salt file is damaged.",
            fix="Restore it from a backup, or delete it together with the manifest's pseudonyms.",
        )
    return salt
