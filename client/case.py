"""case: one examination of one patient inside the hospital, and the record of what was done to it.

A Case never leaves the site.  Every step takes one and returns one with its own record appended; that
history is the cache key, the audit trail and the methods section.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import SimpleITK as sitk

__all__ = ["Case", "CaseRow", "StepRecord", "methods_text"]


@dataclass(frozen=True)
class StepRecord:
    """name: of the step; prose: the sentence for the methods section."""

    name: str
    prose: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CaseRow:
    """What the manifest says of a case.  Paths are absolute strings; split is empty where the site draws it.

    A path may be a DICOM folder; t1ce_series and flair_series then name the series in it, where a person had to.
    """

    pseudonym: str
    t1ce_path: str
    flair_path: str
    mask_path: str
    brain_mask_path: str
    altered: bool
    age_years: float | None
    sex: str
    location: str
    scanner: str
    h3_method: str
    split: Literal["train", "test", ""]
    excluded_because: str = ""
    t1ce_series: str = ""
    flair_series: str = ""
    scan_to_tissue_days: float | None = None


@dataclass(frozen=True)
class Case:
    """Images of one examination; after resampling all lie on one grid.

    t1ce, flair: for radiomics.  network_t1ce, network_flair: for the network, where the protocol's order
    keeps a branch without bias correction (METHOD section 5); else None.
    head_t1ce: T1CE on the common grid before the skull strip, in 256 greys, for pictures only.
    to_native: points of the common grid -> points of the native T1CE, for masks on their way back.
    """

    pseudonym: str
    t1ce: sitk.Image
    flair: sitk.Image
    brain_mask: sitk.Image | None = None
    tumour_mask: sitk.Image | None = None
    network_t1ce: sitk.Image | None = None
    network_flair: sitk.Image | None = None
    head_t1ce: sitk.Image | None = None
    to_native: sitk.Transform | None = None
    history: tuple[StepRecord, ...] = ()
    quality: tuple[tuple[str, float], ...] = ()

    def evolve(self, record: StepRecord, **changes: Any) -> Self:
        """The next state of this case, the step's record appended."""
        return replace(self, history=(*self.history, record), **changes)

    def __repr__(self) -> str:
        """No pseudonym, no voxel: a Case may turn up in a traceback."""
        return f"Case({len(self.history)} steps)"


def methods_text(history: tuple[StepRecord, ...]) -> str:
    """What was done, in words, in the order it was done."""
    return " ".join(record.prose for record in history if record.prose)
