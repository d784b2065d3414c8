"""harmonised_store: a site's harmonised features on its disk, so that the many messages of one model (eleven for
the quantiles alone) read one file instead of fitting and applying the same shifts again.

The key holds everything the values are made of: cases, their scanners and covariates, the harmoniser and the
protocol's settings; another cohort or model is another file, and nothing stale is ever read.  It is a copy that can
always be made again: the two files used last stay, and where the disk takes none the site answers without it.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays import FeatureArray
from common.config.harmonisation import HarmonisationSettings
from common.messages.harmoniser import Harmoniser
from common.stats.combat import BatchDesign

__all__ = ["HarmonisedStore"]

ARITHMETIC = 1
"""Raise it when the same inputs give other values."""
KEPT = 2
SUFFIX = ".npy"


class HarmonisedStore:
    """One folder per site: (cases, features) float64 arrays."""

    def __init__(self, cache: Path, site: str) -> None:
        self._folder = cache / "harmonised" / site

    def key(
        self,
        training: tuple[str, ...],
        test: tuple[str, ...],
        design: BatchDesign,
        harmoniser: Harmoniser,
        settings: HarmonisationSettings,
    ) -> str:
        """training, test: the cases' keys in the feature store, in order; design: of all of them, in the file's order."""
        arrays = {name: value for name, value in harmoniser if isinstance(value, np.ndarray)}
        arrays["covariates"] = design.covariates
        words = {name: value for name, value in harmoniser if name not in arrays}
        told = [ARITHMETIC, training, test, design.batch, design.names, words, settings.model_dump(mode="json")]
        digest = hashlib.sha256(json.dumps(told).encode())
        for name in sorted(arrays):
            digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[name]).data)
        return digest.hexdigest()[:32]

    def load(self, key: str) -> FeatureArray | None:
        """Mapped, not read; None where it is not kept, or not whole."""
        path = self._path(key)
        try:
            os.utime(path)
            values: FeatureArray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return None
        return values

    def save(self, key: str, values: np.ndarray[Any, Any]) -> None:
        """Write beside, then rename; all but the files used last go."""
        # Workers of one site may write the same file at once: each has its own beside.
        beside = self._folder / f".{key}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                np.save(file, np.asarray(values, np.float64))
            beside.replace(self._path(key))
            self._prune()
        except OSError:
            with suppress(OSError):
                beside.unlink()

    def _prune(self) -> None:
        """Also what a killed process left behind, once it is old enough to be among the last."""
        used = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in used[KEPT:]:
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"
