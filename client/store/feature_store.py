"""feature_store: prepared cases on the site's disk, one folder per case and way of preparation.

The key is the fingerprint of the input files and of the protocol's feature settings: another image or
another setting is another folder, and nothing stale is ever read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from client.disk import write_array
from common.arrays import FeatureArray, FeatureVector
from common.disk_faults import disk_faults

__all__ = ["CaseFeatures", "FeatureStore"]

ABOUT, RADIOMICS, VISUAL, REPEATS = "about.json", "radiomics.npy", "visual.npy", "repeats.npy"


@dataclass(frozen=True)
class CaseFeatures:
    """radiomics: float64 in catalogue order; visual: flat; methods, warnings, quality: what is known of them.

    repeats: (perturbations, features) the same features of the perturbed case, where the protocol asks for them;
    provenance: versions and fingerprint of the settings the values were computed with.
    """

    radiomics: FeatureVector
    visual: np.ndarray[Any, Any]
    methods: str
    warnings: tuple[str, ...]
    quality: dict[str, float]
    repeats: FeatureArray | None = None
    provenance: dict[str, str] = field(default_factory=dict)


class FeatureStore:
    """Folder of prepared cases; a case is written beside and renamed, so it is there whole or not at all."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "features"

    def key(self, input_fingerprint: str, feature_fingerprint: str) -> str:
        """Name of a case's folder."""
        return hashlib.sha256(f"{input_fingerprint}:{feature_fingerprint}".encode()).hexdigest()[:32]

    def has(self, key: str) -> bool:
        """Whether the case is prepared."""
        return (self._folder / key).is_dir()

    def save(self, key: str, features: CaseFeatures) -> None:
        """Write a case; InputError `disk-full`, `folder-read-only`."""
        beside = self._folder / f".{key}"
        try:
            with disk_faults("cache"):
                self._save(key, beside, features)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _save(self, key: str, beside: Path, features: CaseFeatures) -> None:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        write_array(beside / RADIOMICS, features.radiomics)
        write_array(beside / VISUAL, features.visual)
        if features.repeats is not None:
            write_array(beside / REPEATS, features.repeats)
        about = {
            "methods": features.methods,
            "warnings": features.warnings,
            "quality": features.quality,
            "provenance": features.provenance,
        }
        (beside / ABOUT).write_text(json.dumps(about, indent=1))
        shutil.rmtree(self._folder / key, ignore_errors=True)
        beside.rename(self._folder / key)

    def radiomics(self, key: str) -> FeatureVector:
        """float64, catalogue order."""
        values: FeatureVector = np.load(self._folder / key / RADIOMICS, allow_pickle=False)
        return values

    def visual(self, key: str) -> np.ndarray[Any, Any]:
        """Read by memory map; the precision it was written with."""
        values: np.ndarray[Any, Any] = np.load(self._folder / key / VISUAL, mmap_mode="r", allow_pickle=False)
        return values

    def repeats(self, key: str) -> FeatureArray | None:
        """(perturbations, features), or None where the case was measured once."""
        path = self._folder / key / REPEATS
        return np.load(path, allow_pickle=False) if path.exists() else None

    def about(self, key: str) -> dict[str, Any]:
        """Methods, warnings and quality."""
        found: dict[str, Any] = json.loads((self._folder / key / ABOUT).read_text())
        return found
