"""atlas: the space all cases are brought to: T1 template, brain mask, and a head to register heads to.

The shipped default is MNI152 (ICBM 2009, inside nilearn), whose T1 holds the brain only.  A patient's image
holds a head.  So the registration's fixed image is the template with a plain head drawn around it: dark
liquor and bone, bright scalp.  A site's own atlas is used as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nilearn.datasets
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from common.errors import ConfigError

__all__ = ["Atlas", "atlas_grid", "load_atlas", "require_atlas"]

SKULL_BASE_MM = -60.0  # below it the drawn scalp would meet faces and necks that differ


@dataclass(frozen=True)
class Atlas:
    """brain: T1 of the brain; mask: its brain mask; head: brain with a head around, and region: where the
    metric looks.
    """

    brain: sitk.Image
    mask: sitk.Image
    head: sitk.Image
    region: sitk.Image


def atlas_grid(atlas: Atlas, spacing_mm: float) -> sitk.Image:
    """An empty image over the atlas' field of view with cubic voxels."""
    reference = atlas.brain
    size = [int(np.ceil(n * s / spacing_mm)) for n, s in zip(reference.GetSize(), reference.GetSpacing(), strict=True)]
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing([spacing_mm] * 3)
    grid.SetOrigin(reference.GetOrigin())
    grid.SetDirection(reference.GetDirection())
    return grid


@lru_cache(2)
def require_atlas(name: str, sha256: str) -> None:
    """ConfigError `atlas-differs` where the file is not the study's: every site would be right in its own space."""
    if name == "mni152":
        return
    path = Path(name)
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    if found and found != sha256:
        raise ConfigError(
            "atlas-differs",
            field="preprocessing.atlas_sha256",
            problem="The atlas at this site is another file than the study's.",
            fix="Copy the study's atlas to the path that the protocol names.",
            local=f"{path}: {found}",
        )


@lru_cache(2)
def load_atlas(name: str) -> Atlas:
    """`mni152`, or the path of a T1 atlas in NIfTI whose zero voxels are background."""
    brain = sitk.DICOMOrient(_read(name), "LPS")
    array = sitk.GetArrayFromImage(brain)
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(array > 0.05 * array.max(), iterations=2))
    mask = _like(brain, inside.astype(np.uint8))
    if name != "mni152":
        return Atlas(brain, mask, brain, _like(brain, np.ones_like(inside, np.uint8)))
    distance = ndimage.distance_transform_edt(~inside, sampling=brain.GetSpacing()[::-1])
    height = np.array([brain.TransformIndexToPhysicalPoint((0, 0, z))[2] for z in range(array.shape[0])])
    above = (height > SKULL_BASE_MM)[:, None, None]
    head = np.where(inside, array / array.max() * 100, 0)
    head[(distance > 8) & (distance <= 14) & above] = 85
    head = ndimage.gaussian_filter(head.astype(np.float32), 0.7)
    # Air around the head belongs to the region: without it the affine may swallow the scalp.
    region = (distance <= 3) | ((distance <= 40) & above)
    return Atlas(brain, mask, _like(brain, head), _like(brain, region.astype(np.uint8)))


def _read(name: str) -> sitk.Image:
    path = Path(name)
    if name == "mni152":
        path = Path(nilearn.datasets.__path__[0]) / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    try:
        return sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError:
        raise ConfigError(
            "atlas-unreadable",
            field="preprocessing.atlas",
            problem="The atlas cannot be read.",
            fix="Give `mni152` or the path of a T1 atlas in NIfTI.",
            local=str(path),
        ) from None


def _like(reference: sitk.Image, array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(reference)
    return image
