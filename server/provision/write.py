"""write: files that are whole or not there, and keys that only their owner reads."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_file"]


def write_file(path: Path, content: bytes, *, secret: bool = False) -> None:
    """Write beside, then rename; a secret is 0600 from its first byte."""
    beside = path.with_name(f".new-{path.name}")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
