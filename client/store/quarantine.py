"""quarantine: the list of cases set aside, in the site's cache: code, reason and cure, by pseudonym.

No case vanishes: eligible = ready + quarantined, and what leaves the list has been prepared or taken out of the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from client.disk import write_whole

__all__ = ["Quarantined", "read_quarantine", "write_quarantine"]


@dataclass(frozen=True)
class Quarantined:
    """One case that could not be prepared; reason and cure hold no path and nothing of a patient."""

    pseudonym: str
    code: str
    field: str
    reason: str
    cure: str


def write_quarantine(cache: Path, cases: Iterable[Quarantined]) -> None:
    """Replace the list by the latest one; InputError `disk-full`, `folder-read-only`."""
    rows = [asdict(case) for case in sorted(cases, key=lambda case: case.pseudonym)]
    write_whole(_path(cache), json.dumps(rows, indent=1).encode())


def read_quarantine(cache: Path) -> tuple[Quarantined, ...]:
    """The list of the latest preparation; empty before the first."""
    path = _path(cache)
    return tuple(Quarantined(**row) for row in json.loads(path.read_text())) if path.exists() else ()


def _path(cache: Path) -> Path:
    return cache / "quarantine.json"
