"""masks: binary masks on the analysis grid, kept by what they are: one file per distinct mask, never overwritten."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from client.image_files import write_image
from common.errors import Refused

__all__ = ["MaskStore", "mask_fingerprint"]


def mask_fingerprint(mask: sitk.Image) -> str:
    """SHA-256 over the voxels and the grid (to a hundredth of the tolerance of grids), whatever the file's format."""
    digest = hashlib.sha256()
    for numbers in (mask.GetSize(), mask.GetSpacing(), mask.GetOrigin(), mask.GetDirection()):
        digest.update(np.round(np.asarray(numbers, float), 5).tobytes())
    digest.update(np.packbits(sitk.GetArrayViewFromImage(mask) > 0).tobytes())
    return digest.hexdigest()


class MaskStore:
    """Folder `masks` of the site's review folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "masks"

    def put(self, mask: sitk.Image) -> str:
        """Keep the mask; its fingerprint is its name."""
        fingerprint = mask_fingerprint(mask)
        if not self._path(fingerprint).exists():
            write_image(sitk.Cast(mask > 0, sitk.sitkUInt8), self._path(fingerprint))
        return fingerprint

    def get(self, fingerprint: str) -> sitk.Image:
        """The mask; Refused `mask-changed` when the file is not what was kept."""
        try:
            mask = sitk.ReadImage(str(self._path(fingerprint)), sitk.sitkUInt8)
        except RuntimeError:
            mask = None
        if mask is None or mask_fingerprint(mask) != fingerprint:
            raise Refused(
                "mask-changed",
                field="review masks",
                problem="A kept mask is missing or was changed on the disk.",
                fix="Restore the review folder of the cache, or reopen the case and read it again.",
                local=str(self._path(fingerprint)),
            )
        return mask

    def _path(self, fingerprint: str) -> Path:
        return self._folder / f"{fingerprint}.nii.gz"
