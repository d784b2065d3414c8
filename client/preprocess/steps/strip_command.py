"""strip_command: a brain mask by the skull-strip program that the hospital has installed; nothing is downloaded by us.

HD-BET 2 (Isensee 2019) and SynthStrip (Hoopes 2022; FreeSurfer's command, or its container's script under that
name) see the native T1CE, so that the mask takes the same way to the atlas grid as an imported one.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from client.case import Case, StepRecord
from common.errors import ConfigError, InputError

__all__ = ["PROGRAMS", "Program", "require_program", "strip_by_command"]

Program = Literal["hd_bet", "synthstrip"]
PROGRAMS: dict[str, tuple[str, ...]] = {
    "hd_bet": ("hd-bet", "-i", "in.nii.gz", "-o", "out.nii.gz", "-device", "cpu", "--disable_tta", "--save_bet_mask",
               "--no_bet_image"),
    "synthstrip": ("mri_synthstrip", "-i", "in.nii.gz", "-m", "out_bet.nii.gz"),
}  # fmt: skip
MASK = "out_bet.nii.gz"
NAMES = {"hd_bet": "HD-BET", "synthstrip": "SynthStrip"}
LONGEST_S = 3600


def require_program(kind: str) -> None:
    """ConfigError `skull-strip-absent` where the protocol wants a program that this machine does not have."""
    if kind in PROGRAMS and shutil.which(PROGRAMS[kind][0]) is None:
        raise ConfigError(
            "skull-strip-absent",
            field="preprocessing.skull_strip",
            problem=f"The protocol strips skulls with {NAMES[kind]}, and this machine has no command {PROGRAMS[kind][0]}.",
            fix="Install it and put it on the PATH, or agree on skull_strip: template or imported.",
        )


def strip_by_command(case: Case, kind: Program, scratch: Path | None = None) -> Case:
    """scratch: folder for the image while the program reads it; it is removed at once.

    InputError `skull-strip-failed`; the program's last words stay in the hospital.
    """
    require_program(kind)
    if scratch is not None:
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="strip-", dir=scratch) as folder:
        sitk.WriteImage(case.t1ce, str(Path(folder) / "in.nii.gz"))
        told = _run(PROGRAMS[kind], Path(folder))
        mask = _mask(Path(folder) / MASK, case.t1ce)
    if mask is None:
        raise InputError(
            "skull-strip-failed",
            case=case.pseudonym,
            field="preprocessing.skull_strip",
            problem=f"{NAMES[kind]} gave no brain mask on T1CE's grid.",
            fix="Run the command by hand on the image; or import a brain mask.",
            local=told[-500:],
        )
    return case.evolve(StepRecord("strip", f"{NAMES[kind]} found the brain in T1CE."), brain_mask=mask)


def _run(command: tuple[str, ...], folder: Path) -> str:
    """What the program said; empty where it ended well."""
    try:
        done = subprocess.run(  # noqa: S603  # a fixed list; the folder is ours
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {LONGEST_S} s"
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr or done.stdout}"


def _mask(path: Path, grid: sitk.Image) -> sitk.Image | None:
    """The program's mask, or None where it cannot be one."""
    if not path.exists():
        return None
    try:
        image = sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "LPS")
    except RuntimeError:
        return None
    same = image.GetSize() == grid.GetSize() and np.allclose(image.GetOrigin(), grid.GetOrigin(), atol=1e-2)
    inside = (sitk.GetArrayFromImage(image) > 0.5).astype(np.uint8)
    if not same or not inside.any():
        return None
    mask = sitk.GetImageFromArray(inside)
    mask.CopyInformation(grid)
    return mask
