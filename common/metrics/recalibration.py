"""recalibration: a site's own correction of the risk, fitted on its training cases, kept as a value.

    intercept    one shift of the logit: mends a different prevalence (2 parameters less to overfit)
    logistic     shift and slope: mends scores that are too extreme as well (Platt; Van Calster et al. 2019)

Neither changes the order of cases, so AUC stays (a negative slope is refused).  Fitted with all sites together
it is a study-wide correction; on one site's cases the site's own.
Law: fitting on the parts of a site equals fitting on the site.  Disclosure: two numbers over `min_cases` cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.arrays import CaseFlags, CaseScores
from common.errors import Refused
from common.metrics import calibration_in_the_large, calibration_line

__all__ = ["Recalibration", "TrainingScores", "apply", "fit"]


@dataclass(frozen=True)
class TrainingScores:
    """Margins and labels of cases that may be learned from."""

    margins: CaseScores
    altered: CaseFlags


@dataclass(frozen=True)
class Recalibration:
    """New logit of P(altered) = intercept + slope * old one; method: intercept or logistic; cases: fitted on."""

    method: Literal["intercept", "logistic"]
    intercept: float
    slope: float
    cases: int


def fit(parts: Sequence[TrainingScores], method: Literal["intercept", "logistic"] = "intercept") -> Recalibration:
    """From the training scores of one site, or of several.

    Refused `fit-on-test-cases`; `one-class-only`; `shift-undetermined` (saturated scores); `separated-classes` (logistic, at AUC 1); `slope-negative`.
    """
    if not all(isinstance(part, TrainingScores) for part in parts):
        raise Refused(
            "fit-on-test-cases",
            field="scores",
            problem="Something tried to recalibrate on cases that are not training cases.",
            fix="Pass TrainingScores.",
        )
    held = [(part.margins, part.altered) for part in parts]
    if method == "intercept":
        found = calibration_in_the_large.fit_sites(held)
        return Recalibration(method, found.intercept, 1.0, found.cases)
    line = calibration_line.fit_sites(held)
    if line.slope <= 0:
        raise Refused(
            "slope-negative",
            field="slope",
            problem="On these cases the score points the wrong way; correcting it would reverse the ranking.",
            fix="Recalibrate the intercept only, or look into the site's labels.",
        )
    return Recalibration(method, line.intercept, line.slope, line.cases)


def apply(correction: Recalibration, margins: CaseScores) -> CaseScores:
    """Corrected margins (logit of the safety score)."""
    return np.asarray(correction.slope * margins - correction.intercept)
