"""anatomy: the MNI152 template's tissues, deformed for one head.

Template and tissue maps ship inside nilearn (ICBM 2009, Fonov et al. 2011).  Each head gets its own size,
tilt and a smooth deformation; every voxel of the scene knows its template coordinate, so that "thalamus"
means the same place in every head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nilearn.datasets
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

__all__ = ["Head", "Volume", "noise_field", "scene_grid", "sculpt_head"]

Volume = np.ndarray[Any, np.dtype[np.float32]]
FIELD_OF_VIEW_MM = (240.0, 240.0, 155.0)
CENTRE_LPS_MM = (0.0, 18.0, 5.0)  # of the template's brain, so that vertex and medulla fit 155 mm


@dataclass(frozen=True)
class Head:
    """grid: the scene (LPS).  ras_mm: template coordinate of each voxel, (3, z, y, x).
    t1, grey, white: template maps in [0, 1].  depth_mm: signed distance to the brain's surface, negative
    inside.
    """

    grid: sitk.Image
    ras_mm: Volume
    t1: Volume
    grey: Volume
    white: Volume
    depth_mm: Volume

    @property
    def csf(self) -> Volume:
        """What is brain but neither grey nor white."""
        return np.where(self.depth_mm <= 0, np.clip(1 - self.grey - self.white, 0, 1), 0).astype(np.float32)


def scene_grid(voxel_mm: float) -> sitk.Image:
    """An empty image of the field of view around the template's centre."""
    size = [round(extent / voxel_mm) for extent in FIELD_OF_VIEW_MM]
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing([voxel_mm] * 3)
    grid.SetOrigin([c - (n - 1) / 2 * voxel_mm for c, n in zip(CENTRE_LPS_MM, size, strict=True)])
    return grid


def sculpt_head(rng: np.random.Generator, voxel_mm: float) -> Head:
    """One head: sizes vary by 3.5 %, tilts by 2-3 degrees, and a smooth deformation of about 2.5 mm."""
    grid = scene_grid(voxel_mm)
    shape = grid.GetSize()[::-1]
    matrix = _random_affine(rng)
    axes = [
        np.float32(o) + np.arange(n, dtype=np.float32) * np.float32(voxel_mm) - np.float32(c)
        for o, n, c in zip(grid.GetOrigin(), grid.GetSize(), CENTRE_LPS_MM, strict=True)
    ]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    lps = [
        (matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] * z).astype(np.float32)
        + np.float32(CENTRE_LPS_MM[i])
        + np.float32(2.5) * noise_field(rng, shape, 28 / voxel_mm)
        for i in range(3)
    ]
    ras = np.stack([-lps[0], -lps[1], lps[2]])
    maps = _template()
    inverse = maps["ras_to_voxel"]
    place = [inverse[i, i] * ras[i] + inverse[i, 3] for i in range(3)]

    def sample(name: str, outside: float) -> Volume:
        return np.asarray(
            ndimage.map_coordinates(maps[name], place, order=1, mode="constant", cval=outside, output=np.float32)
        )

    return Head(grid, ras, sample("t1", 0), sample("gm", 0), sample("wm", 0), sample("depth", 30.0))


def noise_field(rng: np.random.Generator, shape: tuple[int, ...], correlation_voxels: float) -> Volume:
    """Gaussian noise of unit variance, smooth over about `correlation_voxels`."""
    step = max(1.0, correlation_voxels / 2.5)
    coarse = [int(np.ceil(n / step)) + 3 for n in shape]
    field = ndimage.gaussian_filter(rng.standard_normal(coarse).astype(np.float32), min(correlation_voxels, 2.5) / 2)
    if step > 1:
        # Bilinear enlargement on evenly spaced places: fast, and smooth enough below the point spread.
        places = np.meshgrid(*[np.arange(n, dtype=np.float32) / np.float32(step) for n in shape], indexing="ij")
        field = ndimage.map_coordinates(field, places, order=1, mode="nearest", output=np.float32)
    else:
        field = field[tuple(slice(0, n) for n in shape)]
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _random_affine(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    scale = np.diag(1 / rng.normal(1, 0.035, 3))
    angles = rng.normal(0, np.deg2rad((3.0, 2.0, 2.0)))
    turns = np.eye(3)
    for (i, j), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        turns = turns @ turn
    return scale @ turns


@lru_cache(1)
def _template() -> dict[str, Any]:
    """Template maps indexed x, y, z (RAS), and the map from millimetres to their voxels."""
    folder = Path(nilearn.datasets.__path__[0]) / "data"
    maps: dict[str, Any] = {}
    for name in ("t1", "gm", "wm"):
        image = sitk.ReadImage(str(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"), sitk.sitkFloat32)
        ras = sitk.DICOMOrient(image, "LPI")  # axes towards left, posterior, inferior: flipped below
        maps[name] = sitk.GetArrayFromImage(ras)[::-1, ::-1, ::-1].transpose(2, 1, 0) / np.float32(255)
    size, spacing = ras.GetSize(), ras.GetSpacing()
    first = np.array(ras.TransformIndexToPhysicalPoint([n - 1 for n in size])) * (-1, -1, 1)
    maps["ras_to_voxel"] = np.hstack([np.diag(1 / np.array(spacing)), (-first / spacing)[:, None]])
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(maps["t1"] > 0.05, iterations=2))
    outside = ndimage.distance_transform_edt(~brain, sampling=spacing)
    inside = ndimage.distance_transform_edt(brain, sampling=spacing)
    maps["depth"] = np.where(brain, -inside, outside).astype(np.float32)
    return maps
