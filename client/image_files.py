"""image_files: images on the site's disk: geometry and voxels alone, there whole or not at all."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from common.disk_faults import disk_faults

__all__ = ["UNREADABLE", "write_image"]

NIFTI_HEADER = 352
UNREADABLE = (
    *(RuntimeError, OSError, EOFError, ValueError, OverflowError, zlib.error),
    *(ImageFileError, HeaderDataError, WrapStructError),
)
"""What SimpleITK and NiBabel raise for a file that is damaged or no image; found by tests/unit/test_fuzz_review.py."""


def write_image(image: sitk.Image, path: Path) -> None:
    """NIfTI (.nii, .nii.gz) with nothing in its header but the geometry; written beside, then renamed.

    InputError `disk-full`, `folder-read-only`.
    """
    clean = sitk.Image(image)
    for key in clean.GetMetaDataKeys():
        clean.EraseMetaData(key)
    beside = path.with_name(f".new-{path.name}")
    with disk_faults("cache"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.touch()  # ITK's own words for a closed folder name no cause
            sitk.WriteImage(clean, str(beside), useCompression=True, compressionLevel=1)
            _require_whole(beside, clean)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _require_whole(path: Path, image: sitk.Image) -> None:
    """On a full disk ITK leaves half a NIfTI file and says nothing; gzip's last word is the length of what it packed."""
    voxels = image.GetNumberOfPixels() * image.GetSizeOfPixelComponent() * image.GetNumberOfComponentsPerPixel()
    size = path.stat().st_size
    if path.suffix == ".gz" and size >= 4:
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            size = int.from_bytes(file.read(4), "little")
    if size != (NIFTI_HEADER + voxels) % 2**32:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
