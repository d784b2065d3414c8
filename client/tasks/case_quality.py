"""case_quality: can a prepared case be believed?  Its measures against their limits, a verdict and its reasons.

    client/preprocess/quality.py   registration, skull strip, noise      while the case is prepared
    here                           the tumour mask, its side             automatic mask, then the accepted one
    judge                          verdict, reasons, suspicion           whenever somebody asks

A verdict is computed from the stored measures each time, so a better limit needs no new preparation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import SimpleITK as sitk

from client.case import Case
from client.review.check_mask import (
    FLIPPED_BETTER_BY,
    LARGEST_ML,
    LEAST_IN_BRAIN,
    MOST_COMPONENTS,
    SMALLEST_ML,
    describe_mask,
    mirrored_gain,
)

__all__ = ["MEASURES", "Measure", "Verdict", "judge", "with_mask_measures"]


@dataclass(frozen=True)
class Measure:
    """low, usual, high: limits and what an unsuspicious case has; None where a direction is never wrong.

    title: of its column; told: the reason's words, with the value in place of {}.
    """

    name: str
    title: str
    low: float | None
    usual: float
    high: float | None
    told: str

    def suspicion(self, value: float) -> float:
        """0 at the usual value, 1 at a limit, more beyond it."""
        limit = self.low if value < self.usual else self.high
        return 0.0 if limit is None else (value - self.usual) / (limit - self.usual)


MEASURES = (
    Measure("edge_agreement", "FLAIR to T1CE", 0.40, 0.60, 0.97, "FLAIR and T1CE agree oddly after registration ({:.2f})"),
    Measure("atlas_agreement", "T1CE to atlas", 0.10, 0.30, None, "T1CE does not lie well on the atlas ({:.2f})"),
    Measure("atlas_overlap", "brain on atlas", 0.88, 0.95, None, "brain mask and atlas overlap little (Dice {:.2f})"),
    Measure("brain_volume_ml", "brain, ml", 800, 1600, 2200, "brain mask of {:.0f} ml; check the picture"),
    Measure("snr_t1ce", "SNR T1CE", 6, 20, None, "T1CE is noisy (signal to noise {:.1f})"),
    Measure("snr_flair", "SNR FLAIR", 6, 20, None, "FLAIR is noisy (signal to noise {:.1f})"),
    Measure("tumour_ml", "tumour, ml", SMALLEST_ML, 30, LARGEST_ML, "tumour mask of {:.1f} ml"),
    Measure("tumour_parts", "parts", None, 1, MOST_COMPONENTS, "{:.0f} separate parts"),
    Measure("tumour_in_brain", "in brain", LEAST_IN_BRAIN, 1, None, "only {:.0%} of the tumour mask lies in the brain"),
    Measure("tumour_flair", "FLAIR contrast", 0.0, 1.5, None, "the tumour mask is not bright in FLAIR ({:+.1f} SD)"),
    Measure("mirrored_gain", "mirrored", None, -0.3, FLIPPED_BETTER_BY, "the mask would fit FLAIR better on the other side"),
)  # fmt: skip
"""Limits of masks are those of the review (METHOD section 6); the others were measured on few cases
(docs/decisions/0016-quality-limits.md)."""


@dataclass(frozen=True)
class Verdict:
    """word: `good`, or `look` where a measure is beyond its limit; reasons: one for each; suspicion: the largest."""

    word: Literal["good", "look"]
    reasons: tuple[str, ...]
    suspicion: float


def judge(quality: Mapping[str, float]) -> Verdict:
    """Of whatever was measured; a case with fewer measures is judged by those."""
    found = [(m, quality[m.name], m.suspicion(quality[m.name])) for m in MEASURES if m.name in quality]
    reasons = tuple(m.told.format(value) for m, value, suspicion in found if suspicion > 1)
    return Verdict("look" if reasons else "good", reasons, max((s for _, _, s in found), default=0.0))


def with_mask_measures(case: Case) -> Case:
    """The case with the measures of the tumour mask that it has now; an empty mask is 0 ml and no more."""
    if case.tumour_mask is None or case.brain_mask is None:
        raise ValueError("measures of a mask need a mask")
    region, brain = (sitk.GetArrayViewFromImage(mask) > 0 for mask in (case.tumour_mask, case.brain_mask))
    flair = sitk.GetArrayViewFromImage(case.flair)
    volume, parts, _ = describe_mask(case.tumour_mask)
    measures = {"tumour_ml": volume, "tumour_parts": float(parts)}
    if region.any():
        measures["tumour_in_brain"] = float((region & brain).sum() / region.sum())
        measures["tumour_flair"] = float((flair[region].mean() - flair[brain].mean()) / np.std(flair[brain]))
        measures["mirrored_gain"] = mirrored_gain(region, brain, flair)
    return replace(case, quality=tuple({**dict(case.quality), **measures}.items()))
