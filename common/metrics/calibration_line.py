"""calibration_line: do predicted risks mean what they say?  Calibration in the large, slope and intercept.

    logit P(altered) = intercept + slope * predicted logit        (Cox 1958; Van Calster et al. 2019)
    calibration in the large: the intercept when the slope is held at 1; 0 is ideal, above 0: risk understated

The predicted logit of being altered is minus the margin.  Fitted by `stats.logistic` from sums.

Law: equal to the logistic fit of the pooled scores (statsmodels 1e-10) for any partition; a site of one case or
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

__all__ = [
    "CalibrationLine",
    "InTheLarge",
    "finish_in_the_large",
    "finish_line",
    "fit_in_the_large",
    "fit_line",
    "start_in_the_large",
    "start_line",
    "summarise",
]

COLUMN = "predicted logit"


@dataclass(frozen=True)
class CalibrationLine:
    """Ideal: intercept 0, slope 1; below 1 the scores are too extreme.  Errors are standard errors."""

    intercept: float
    slope: float
    intercept_error: float
    slope_error: float
    cases: int


@dataclass(frozen=True)
class InTheLarge:
    """The intercept at slope 1 and its standard error."""

    intercept: float
    error: float
    cases: int


def start_line() -> LogisticFit:
    """A search for intercept and slope; drive it with `logistic.combine` and `logistic.advance`."""
    return logistic.start((COLUMN,))


def start_in_the_large() -> LogisticFit:
    """A search for the intercept at slope 1."""
    return logistic.start((), offset=True)


def summarise(margins: CaseScores, altered: CaseFlags, fit: LogisticFit) -> LogisticSums:
    """Runs in the hospital.  InputError `score-not-finite`."""
    require_finite_scores(margins, altered)
    logits = -np.asarray(margins, np.float64)
    if fit.offset:
        return logistic.summarise_design(np.empty((len(logits), 0)), altered, fit, offset=logits)
    return logistic.summarise_design(logits[:, None], altered, fit)


def finish_line(fit: LogisticFit) -> CalibrationLine:
    """Of a converged search."""
    model = logistic.finish(fit)
    (intercept, slope), (first, second) = model.coefficients, model.errors
    return CalibrationLine(float(intercept), float(slope), float(first), float(second), model.cases)


def finish_in_the_large(fit: LogisticFit) -> InTheLarge:
    """Of a converged search."""
    model = logistic.finish(fit)
    return InTheLarge(float(model.coefficients[0]), float(model.errors[0]), model.cases)


def fit_line(parts: Sequence[tuple[CaseScores, CaseFlags]]) -> CalibrationLine:
    """All rounds at once over (margins, altered) of each site.

    Refused `one-class-only`; `separated-classes` at AUC 1; `collinear-columns` when all scores are equal.
    """
    return finish_line(_drive(start_line(), parts))


def fit_in_the_large(parts: Sequence[tuple[CaseScores, CaseFlags]]) -> InTheLarge:
    """All rounds at once over (margins, altered) of each site.  Refused `one-class-only`."""
    return finish_in_the_large(_drive(start_in_the_large(), parts))


def _drive(fit: LogisticFit, parts: Sequence[tuple[CaseScores, CaseFlags]]) -> LogisticFit:
    while not fit.converged:
        fit = logistic.advance(fit, logistic.combine([summarise(m, a, fit) for m, a in parts]))
    return fit
