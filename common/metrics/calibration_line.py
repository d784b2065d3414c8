"""calibration_line: are predicted risks too extreme or too timid?  Calibration slope and intercept.

    logit P(altered) = intercept + slope * predicted logit        (Cox 1958; Van Calster et al. 2019)

The predicted logit of being altered is minus the margin.  Fitted by `stats.logistic` from sums.

Law: equal to the logistic fit of the pooled scores (statsmodels 1e-9) for any partition; a site of one case or
one class takes part.  Needs sums only: five numbers a round.
Disclosure: as `stats.logistic`; the gradient of a single case is its score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.arrays import CaseFlags, CaseScores
from common.metrics.confusion import require_finite_scores
from common.stats import logistic
from common.stats.logistic import LogisticFit, LogisticSums

__all__ = ["CalibrationLine", "finish", "fit_sites", "start", "summarise"]

COLUMN = "predicted logit"


@dataclass(frozen=True)
class CalibrationLine:
    """Ideal: intercept 0, slope 1; below 1 the scores are too extreme.  Errors are standard errors."""

    intercept: float
    slope: float
    intercept_error: float
    slope_error: float
    cases: int


def start() -> LogisticFit:
    """A search for intercept and slope; drive it with `logistic.combine` and `logistic.advance`."""
    return logistic.start((COLUMN,))


def summarise(margins: CaseScores, altered: CaseFlags, fit: LogisticFit) -> LogisticSums:
    """Runs in the hospital.  InputError `score-not-finite`."""
    require_finite_scores(margins, altered)
    logits = -np.asarray(margins, np.float64)
    return logistic.summarise_design(logits[:, None], altered, fit)


def finish(fit: LogisticFit) -> CalibrationLine:
    """Of a converged search."""
    model = logistic.finish(fit)
    (intercept, slope), (first, second) = model.coefficients, model.errors
    return CalibrationLine(float(intercept), float(slope), float(first), float(second), model.cases)


def fit_sites(parts: Sequence[tuple[CaseScores, CaseFlags]]) -> CalibrationLine:
    """All rounds at once over (margins, altered) of each site.

    Refused `one-class-only`; `separated-classes` at AUC 1; `collinear-columns` when all scores are equal.
    """
    fit = start()
    while not fit.converged:
        fit = logistic.advance(fit, logistic.combine([summarise(m, a, fit) for m, a in parts]))
    return finish(fit)
