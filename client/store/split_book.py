"""split_book: on which side of the split a case once was, in the cache, so that it stays there.

The split is drawn by the protocol's seed over the cases at hand; one case more would deal all of them anew, and a model
that goes on from a released one would be tested on what the released one had learned.  So the draw is remembered when a
site qualifies, and new cases alone are drawn later.  A manifest with a split of its own needs no book.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from client.disk import write_whole

__all__ = ["SplitBook"]


class SplitBook:
    """Of one site, seed and test share."""

    def __init__(self, cache: Path, *, site: str, seed: int, test_fraction: float) -> None:
        self._path = cache / "splits" / f"{site}-{seed}-{test_fraction:g}.json"

    def tested(self) -> dict[str, bool]:
        """Whether each case that was ever drawn is a test case, by pseudonym."""
        found: dict[str, bool] = json.loads(self._path.read_text()) if self._path.exists() else {}
        return found

    def remember(self, tested: Mapping[str, bool]) -> None:
        """Add cases; what stands there stays."""
        known = self.tested()
        if set(tested) - set(known):
            write_whole(self._path, json.dumps({**tested, **known}, indent=1, sort_keys=True).encode())
