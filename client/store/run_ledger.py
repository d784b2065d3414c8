"""run_ledger: which of the site's cases went into which run, in the cache; the server never learns a case.

One JSON file per run, by study and protocol fingerprint: cases with the key of their features, trained on or tested,
from a run's first training round or first scoring on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from client.disk import write_whole

__all__ = ["Run", "RunLedger", "Use"]

Use = Literal["training", "test"]


@dataclass(frozen=True)
class Run:
    """training, test: the features' key by pseudonym (empty where it is not known)."""

    site: str
    study: str
    fingerprint: str
    first: str
    last: str
    training: Mapping[str, str]
    test: Mapping[str, str]


class RunLedger:
    """Folder `runs` of the cache."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "runs"

    def note(
        self, site: str, study: str, fingerprint: str, use: Use, cases: Mapping[str, str], *, when: datetime
    ) -> None:
        """These cases are used; those noted before stay, for the run has seen them."""
        path = self._folder / f"{site}-{study}-{fingerprint[:16]}.json"
        now = when.isoformat(timespec="seconds")
        known = json.loads(path.read_text()) if path.exists() else None
        found = known or {"site": site, "study": study, "fingerprint": fingerprint, "first": now, "last": now}
        merged = {**found.get(use, {}), **cases}
        if known is not None and merged == found.get(use):
            return
        write_whole(
            path, json.dumps({"training": {}, "test": {}, **found, use: merged, "last": now}, indent=1).encode()
        )

    def runs(self, pseudonym: str = "") -> list[Run]:
        """All, or those that used this case, by the time they began."""
        found = [Run(**json.loads(path.read_text())) for path in sorted(self._folder.glob("*.json"))]
        used = [run for run in found if not pseudonym or pseudonym in run.training or pseudonym in run.test]
        return sorted(used, key=lambda run: (run.first, run.study))
