"""fingerprints: what a case's files hashed to, remembered while their sizes and times stay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from client.case import CaseRow
from client.disk import write_whole

__all__ = ["FingerprintBook"]


class FingerprintBook:
    """One JSON file in the cache; hashing hundreds of images at every message would be slow."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / "fingerprints.json"
        self._known: dict[str, str] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._kept = dict(self._known)

    def look_up(self, row: CaseRow, compute: Callable[[CaseRow], str]) -> str:
        """The fingerprint of the case's files as they are now."""
        stamp = _stamp(row)
        if stamp not in self._known:
            self._known[stamp] = compute(row)
        return self._known[stamp]

    def find(self, row: CaseRow) -> str | None:
        """The fingerprint if these very files were hashed before, else None."""
        return self._known.get(_stamp(row))

    def remember(self, row: CaseRow, fingerprint: str) -> None:
        """Of a case without files: what it is made of now, whatever it was before."""
        self._known[_stamp(row)] = fingerprint

    def save(self) -> None:
        """Write down what is new; of two at once the later stays, and what it lacks is hashed again."""
        if self._known != self._kept:
            write_whole(self._path, json.dumps(self._known).encode())
            self._kept = dict(self._known)


def _stamp(row: CaseRow) -> str:
    """A hash of paths, sizes and times of all files of the case, and of the series chosen by a person; a case without
    files came from a table.
    """
    if not (row.t1ce_path or row.flair_path):
        return f"table|{row.pseudonym}"
    parts = [name for name in (row.t1ce_series, row.flair_series) if name]
    for text in (row.t1ce_path, row.flair_path, row.mask_path, row.brain_mask_path):
        path = Path(text) if text else None
        if path is None or not path.exists():
            parts.append(f"{text}:none")
            continue
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            status = file.stat()
            parts.append(f"{file}:{status.st_size}:{status.st_mtime_ns}")
    # A path may hold a patient's name: the book keeps its hash only.
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
