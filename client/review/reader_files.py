"""reader_files: the four images a reader sees of a case, all on the analysis grid, none with a name in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from common.errors import InputError

__all__ = ["ITK_SNAP_LABELS", "ReaderFiles"]

ITK_SNAP_LABELS = """\
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Whole tumour with oedema"
"""


@dataclass(frozen=True)
class ReaderFiles:
    """Paths; the automatic mask is never written to, a reader works on a copy."""

    t1ce: Path
    flair: Path
    brain: Path
    automatic: Path

    def read(self, name: str) -> sitk.Image:
        """One of the four by its field's name."""
        path: Path = getattr(self, name)
        try:
            return sitk.ReadImage(str(path))
        except RuntimeError:
            raise InputError(
                "reader-file-missing",
                field=name,
                problem="An image of the prepared case is not in the cache.",
                fix="Run `fedmidline-site prepare` again.",
                local=str(path),
            ) from None

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """Its voxels, z y x; a copy, for a view does not keep its image alive."""
        voxels: np.ndarray[Any, Any] = sitk.GetArrayFromImage(self.read(name))
        return voxels
