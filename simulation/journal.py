"""journal: what an experiment has found so far, one JSON line per finished piece, so that the same command goes on
where it was stopped.

A line counts only under the setting it was found with; another protocol or other cases begin anew.  A line that was
cut by a crash is dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["Journal"]


class Journal:
    """Lines of one file; without a file it remembers nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            for text in path.read_text(encoding="utf-8").splitlines():
                try:
                    line = json.loads(text)
                    self._known[line["key"]] = line["found"]
                except (ValueError, KeyError, TypeError):
                    continue

    def find(self, name: str, number: int, setting: Sequence[object]) -> dict[str, Any] | None:
        """What was found under exactly this setting."""
        return self._known.get(_key(name, number, setting))

    def write(self, name: str, number: int, setting: Sequence[object], found: dict[str, Any]) -> dict[str, Any]:
        """Append a line; returns what was found."""
        key = _key(name, number, setting)
        self._known[key] = found
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                # The break comes first: a line that a crash has cut stays alone.
                file.write("\n" + json.dumps({"key": key, "name": name, "number": number, "found": found}))
        return found


def _key(name: str, number: int, setting: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps([name, number, *setting]).encode()).hexdigest()[:32]
