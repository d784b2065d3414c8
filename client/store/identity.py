"""identity: the key with which a site signs; its public half stands in the protocol (federation.site_keys)."""

from __future__ import annotations

from pathlib import Path

from client.store.secret import SECRET_BYTES, kept_secret
from common.errors import InputError

__all__ = ["site_identity"]


def site_identity(folder: Path, site: str) -> bytes:
    """Read `identity/<site>.key`, or draw it once; only this account may read the file.

    InputError `identity-invalid` for a file of another length.
    """
    key = kept_secret(folder / "identity" / f"{site}.key")
    if len(key) != SECRET_BYTES:
        raise InputError(
            "identity-invalid",
            field="cache",
            problem="The site's identity key is damaged.",
            fix="Restore it from a backup, or delete it and tell the consortium the new identity.",
        )
    return key
