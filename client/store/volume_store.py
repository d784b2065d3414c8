"""volume_store: small labelled volumes on the site's disk, so that a round of the network's training reads in no time.

The key is of images, mask and voxel size; nothing in a file names a case.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from client.disk import write_arrays

__all__ = ["VolumeStore"]

Array = np.ndarray[Any, Any]


class VolumeStore:
    """Folder `volumes` of the cache; a file is there whole or not at all."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "volumes"

    def key(self, images: str, mask: str, spacing_mm: float) -> str:
        """images: the case's key in the prepared store; mask: fingerprint of a reader's mask, empty for the manifest's."""
        return hashlib.sha256(f"{images}:{mask}:{spacing_mm!r}".encode()).hexdigest()[:32]

    def has(self, key: str) -> bool:
        """Whether the volume is there."""
        return self._path(key).exists()

    def save(self, key: str, images: Array, mask: Array) -> None:
        """images: (2, z, y, x), kept in half precision (z-scores to 5e-4); mask: (z, y, x) bool."""
        write_arrays(self._path(key), {"images": images.astype(np.float16), "mask": mask})

    def load(self, key: str) -> tuple[Array, Array]:
        """Images in float32, and the mask."""
        with np.load(self._path(key), allow_pickle=False) as stored:
            return stored["images"].astype(np.float32), stored["mask"]

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"
