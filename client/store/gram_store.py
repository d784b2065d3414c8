"""gram_store: the cases' products X X' on the site's disk, so that every round but the first saves a pass.

The key holds the cases and the standardisation; other cases or another standardisation are another file.  Tens of
kilobytes; never sent (products between cases tell how alike they are).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from client.disk import write_array

__all__ = ["GramStore"]

Gram = np.ndarray[Any, np.dtype[np.float64]]


class GramStore:
    """Folder of small files, one per cohort and standardisation."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "gram"

    def key(self, cases: tuple[str, ...], *arrays: np.ndarray[Any, Any]) -> str:
        """From the cases' keys in the feature store and the arrays that standardise them."""
        digest = hashlib.sha256("\n".join(cases).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:32]

    def load(self, key: str) -> Gram | None:
        """The products, or None where they are not known."""
        path = self._path(key)
        if not path.exists():
            return None
        found: Gram = np.load(path, allow_pickle=False)
        return found

    def save(self, key: str, gram: Gram) -> None:
        """Whole or not at all; InputError `disk-full`, `folder-read-only`."""
        write_array(self._path(key), gram)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"
