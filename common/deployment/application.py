"""application: which code is installed, as one fingerprint that study and hospital compare.

A hospital runs the code that it has installed, never code that a server sends; this says whether the two are the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["application_fingerprint", "application_stamp"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("client", "common")


def application_fingerprint() -> str:
    """SHA-256 over names and contents of every Python file that can answer a message."""
    digest = hashlib.sha256()
    for path in _files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def application_stamp() -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the same files: differs when they may differ, and takes a millisecond."""
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path in _files() for stat in (path.stat(),))


def _files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
