"""compare: what a reader changed: overlap, surface distance, volume, voxels in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

__all__ = ["Comparison", "compare", "dice", "surface_distance_95"]

Region = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Comparison:
    """Final against automatic mask.  hd95_mm: NaN where one of them is empty."""

    dice: float
    hd95_mm: float
    volume_ml: float
    volume_change_ml: float
    added_voxels: int
    removed_voxels: int

    @property
    def identical(self) -> bool:
        """Not one voxel differs."""
        return self.added_voxels == self.removed_voxels == 0


def compare(automatic: sitk.Image, final: sitk.Image) -> Comparison:
    """Both on one grid."""
    before, after = (sitk.GetArrayViewFromImage(mask) > 0 for mask in (automatic, final))
    voxel_ml = float(np.prod(final.GetSpacing())) / 1000
    volume = float(after.sum() * voxel_ml)
    return Comparison(
        dice=dice(before, after),
        hd95_mm=surface_distance_95(before, after, final.GetSpacing()[::-1]),
        volume_ml=volume,
        volume_change_ml=volume - float(before.sum() * voxel_ml),
        added_voxels=int((after & ~before).sum()),
        removed_voxels=int((before & ~after).sum()),
    )


def dice(one: Region, other: Region) -> float:
    """Twice the common part over both (Dice 1945); two empty masks agree wholly."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0


def surface_distance_95(one: Region, other: Region, spacing_zyx_mm: tuple[float, ...]) -> float:
    """The larger of the two directed 95th percentiles of surface distances, in mm (Huttenlocher 1993; as MONAI).

    Empty mask: NaN, never 0.  Equal masks: 0.  Symmetric.
    """
    if not one.any() or not other.any():
        return float("nan")
    box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in ndimage.find_objects((one | other).astype(np.uint8))[0])
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (one, other)]
    directed = []
    for here, there in (surfaces, surfaces[::-1]):
        distance = ndimage.distance_transform_edt(~there, sampling=spacing_zyx_mm)
        directed.append(float(np.percentile(distance[here], 95)))
    return max(directed)
