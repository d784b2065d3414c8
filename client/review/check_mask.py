"""check_mask: may a reader's mask enter the study?  What is wrong is refused, what is odd is flagged (METHOD 6)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from client.image_files import UNREADABLE
from client.review.compare import dice
from client.review.reader_files import ReaderFiles
from common.errors import InputError

__all__ = [
    "FLIPPED_BETTER_BY",
    "LARGEST_ML",
    "LEAST_IN_BRAIN",
    "MOST_COMPONENTS",
    "SMALLEST_ML",
    "CheckedMask",
    "check_mask",
    "describe_mask",
    "mirrored_gain",
    "read_mask",
]

TOLERANCE = 1e-3
SMALLEST_ML, LARGEST_ML = 0.5, 300.0
LEAST_IN_BRAIN = 0.95
MOST_COMPONENTS = 3
FLIPPED_BETTER_BY = 0.2
LEAST_DICE = 0.80

Region = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class CheckedMask:
    """mask: uint8 of 0 and 1 on exactly the analysis grid; flags: what a second look should go to."""

    mask: sitk.Image
    flags: tuple[str, ...]


def read_mask(path: Path, grid: sitk.Image, *, pseudonym: str) -> sitk.Image:
    """A mask from a file of any format SimpleITK reads, on `grid`.

    InputError `mask-unreadable`, `mask-other-grid` (found before a voxel is read), `mask-not-binary`.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _require_grid(reader, grid, pseudonym)
        if path.name.endswith((".nii", ".nii.gz")):
            np.asanyarray(nibabel.load(path).dataobj)  # ITK reads a truncated file as zeros, without a word
        image = reader.Execute()
    except UNREADABLE as error:
        raise _fault(
            "mask-unreadable", pseudonym, "The mask cannot be read; it may be truncated.", "Save it again.", error
        ) from None
    array = sitk.GetArrayFromImage(image)
    values = np.unique(array)
    if array.ndim != 3 or array.dtype.kind == "c" or not set(values.tolist()) <= {0, 1}:
        raise _fault(
            "mask-not-binary",
            pseudonym,
            "The mask holds other values than 0 and 1.",
            "Use one label, 1, for the whole tumour with its oedema.",
            f"values {values[:6].tolist()}",
        )
    mask = sitk.GetImageFromArray(array.astype(np.uint8))
    mask.CopyInformation(grid)
    return mask


def check_mask(mask: sitk.Image, files: ReaderFiles, *, pseudonym: str, confirmed: bool = False) -> CheckedMask:
    """The whole list of METHOD section 6.

    InputError: mask-empty, mask-volume (0.5 to 300 ml), mask-outside-brain (at least 95 % inside), mask-flipped
    (the mirrored mask fits FLAIR better; `confirmed` turns it into a flag).
    """
    region = sitk.GetArrayViewFromImage(mask) > 0
    volume, _, flags = describe_mask(mask)
    if not region.any():
        raise _fault("mask-empty", pseudonym, "The mask is empty.", "Draw it, or reject the case as not assessable.")
    if not SMALLEST_ML <= volume <= LARGEST_ML:
        raise _fault(
            "mask-volume",
            pseudonym,
            f"The mask's volume is outside {SMALLEST_ML:g} to {LARGEST_ML:g} ml.",
            "Check that the whole tumour and nothing else is drawn.",
            f"{volume:.2f} ml",
        )
    brain = files.array("brain") > 0
    inside = float((region & brain).sum() / region.sum())
    if inside < LEAST_IN_BRAIN:
        raise _fault(
            "mask-outside-brain",
            pseudonym,
            f"Less than {LEAST_IN_BRAIN:.0%} of the mask lies in the brain.",
            "Remove what was drawn outside; check that the mask belongs to this case.",
            f"{inside:.1%} inside",
        )
    if mirrored_gain(region, brain, files.array("flair")) > FLIPPED_BETTER_BY:
        if not confirmed:
            raise _fault(
                "mask-flipped",
                pseudonym,
                "Turned left to right, the mask would fit FLAIR better.",
                "Check the sides; if it is right as it is, confirm it.",
            )
        flags += ("would fit better on the other side; confirmed by the reader",)
    overlap = dice(region, files.array("automatic") > 0)
    if overlap < LEAST_DICE:
        flags += (f"far from the automatic mask (Dice {overlap:.2f})",)
    return CheckedMask(mask, flags)


def describe_mask(mask: sitk.Image) -> tuple[float, int, tuple[str, ...]]:
    """Volume in ml, connected components (26 neighbours), and flags on its shape."""
    region = sitk.GetArrayViewFromImage(mask) > 0
    labels, components = ndimage.label(region, np.ones((3, 3, 3)))
    flags: tuple[str, ...] = ()
    if components > MOST_COMPONENTS:
        flags += (f"{components} separate parts",)
    thin = sum(min(s.stop - s.start for s in box) == 1 for box in ndimage.find_objects(labels))
    if thin:
        flags += (f"{thin} part(s) of a single slice",)
    return float(region.sum() * np.prod(mask.GetSpacing()) / 1000), components, flags


def mirrored_gain(region: Region, brain: Region, flair: np.ndarray[Any, Any]) -> float:
    """How much more of FLAIR's hyper-intensity the mask would hold, turned about the brain's middle plane (-1 to 1).

    Hyper-intense is above the brain's mean by one standard deviation.  A midline mask fits both ways alike.
    """
    inside = flair[brain]
    bright = brain & (flair > inside.mean() + inside.std())
    middle = round(2 * float(np.nonzero(brain)[2].mean()))
    x = np.nonzero(region)[2]
    turned = np.zeros_like(region)
    place = middle - x
    keep = (place >= 0) & (place < region.shape[2])
    z, y, _ = (axis[keep] for axis in np.nonzero(region))
    turned[z, y, place[keep]] = True
    own, other = (float((m & bright).sum() / region.sum()) for m in (region, turned))
    return other - own


def _require_grid(found: Any, grid: sitk.Image, pseudonym: str) -> None:
    same = tuple(found.GetSize()) == grid.GetSize() and all(
        np.allclose(ours, theirs, rtol=0, atol=TOLERANCE)
        for ours, theirs in (
            (found.GetSpacing(), grid.GetSpacing()),
            (found.GetOrigin(), grid.GetOrigin()),
            (found.GetDirection(), grid.GetDirection()),
        )
    )
    if not same:
        raise _fault(
            "mask-other-grid",
            pseudonym,
            "The mask lies on another grid than the images.",
            "Save it on the grid of T1CE (size, spacing, origin, direction), without resampling.",
            f"size {tuple(found.GetSize())}, spacing {tuple(round(s, 3) for s in found.GetSpacing())}",
        )


def _fault(code: str, pseudonym: str, problem: str, fix: str, local: object = "") -> InputError:
    return InputError(code, case=pseudonym, field="mask", problem=problem, fix=fix, local=str(local))
