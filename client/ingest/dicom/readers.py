"""readers: the same copies read by two programs that share no code: dcm2niix, and GDCM through SimpleITK.

Only where both give the same voxels in the same place is a volume trusted.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from client.ingest.dicom.faults import refusal

__all__ = ["Difference", "Voxels", "compare", "read_with_dcm2niix", "read_with_gdcm"]

TIMEOUT_S = 900
FLIP_X_Y = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes point left and back, NIfTI's right and front


@dataclass(frozen=True)
class Voxels:
    """data: (i, j, k) or (i, j, k, time); affine: voxel to mm, NIfTI's axes; name: what the program told it apart by."""

    data: np.ndarray[Any, Any]
    affine: np.ndarray[Any, np.dtype[np.float64]]
    name: str = ""

    def canonical(self) -> Voxels:
        """Axes in the order right, front, top: the same physical image."""
        turn = io_orientation(self.affine)
        data = apply_orientation(self.data, turn)
        return Voxels(data, self.affine @ inv_ornt_aff(turn, self.data.shape[:3]), self.name)


@dataclass(frozen=True)
class Difference:
    """corner_mm: the farthest that a corner of the volume lies apart; voxels: how many differ; -1 on another grid."""

    corner_mm: float
    voxels: int

    @property
    def none(self) -> bool:
        """Within 1e-4 mm and equal in every voxel."""
        return self.voxels == 0 and self.corner_mm <= 1e-4


def read_with_dcm2niix(copies: Path, out: Path) -> tuple[Voxels, ...]:
    """Every image that it makes of the folder.  InputError `not-converted` where it makes none, fails or hangs."""
    out.mkdir(mode=0o700)
    # -g i: the account's own defaults must not change a study; -ba y: no date in its notes, which are not written.
    command = [dcm2niix.bin, "-g", "i", "-b", "n", "-ba", "y", "-z", "n", "-f", "v", "-o", str(out), str(copies)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603  # numbers for names
    except (OSError, subprocess.TimeoutExpired) as error:
        raise refusal("not-converted", local=type(error).__name__) from None
    files = sorted(out.glob("*.nii"))
    if not files or done.returncode != 0:
        raise refusal("not-converted", local=f"dcm2niix ended with {done.returncode} and made {len(files)} image(s)")
    return tuple(_load(path) for path in files)


def _load(path: Path) -> Voxels:
    image = nibabel.load(path)
    return Voxels(np.array(np.asanyarray(image.dataobj)), np.array(image.affine, dtype=float), path.stem[1:].strip("_"))


def read_with_gdcm(volumes: Sequence[Sequence[Path]]) -> Voxels:
    """The volumes, each given by its slices in order of their place (or by its one enhanced file).

    InputError `not-converted` where it cannot.
    """
    images = []
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings become our comparison
    try:
        for files in volumes:
            if len(files) == 1:
                images.append(sitk.ReadImage(str(files[0])))
            else:
                reader = sitk.ImageSeriesReader()
                reader.SetFileNames([str(file) for file in files])
                images.append(reader.Execute())
    except RuntimeError:
        raise refusal("not-converted", local="GDCM cannot read the series") from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    data = np.stack([np.transpose(sitk.GetArrayFromImage(image)) for image in images], axis=-1)
    image = images[0]
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Voxels(data[..., 0] if len(images) == 1 else data, FLIP_X_Y @ affine)


def compare(one: Voxels, other: Voxels, *, ratio: float = 1.0) -> Difference:
    """In physical space, for dcm2niix turns some volumes.  ratio: of the first's values to the other's."""
    a, b = one.canonical(), other.canonical()
    if a.data.shape != b.data.shape:
        return Difference(np.inf, -1)
    ends = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    ends[:, :3] *= np.array(a.data.shape[:3]) - 1
    apart = np.linalg.norm(ends @ (a.affine - b.affine).T, axis=1).max()
    mine, theirs = a.data.astype(float), b.data.astype(float) * ratio
    scale = max(float(np.abs(theirs).max()), 1e-30)
    return Difference(float(apart), int(np.sum(np.abs(mine - theirs) > 1e-6 * scale)))
