"""calibration_table: predicted risk beside observed share, by bins: Brier score, ECE, observed over expected.

Bins are even in P(altered); a case on an edge belongs to the upper bin.  O/E has its interval on the log scale
with the expected number taken as known (Debray et al. 2017, doi 10.1136/bmj.i6460).

Law: the sum of the sites' tables is the pooled table, to rounding; counts exactly.  Needs sums only.
Disclosure: small bins; publish `merged(min_cases)`, whose every bin holds enough cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit

from common.arrays import CaseFlags, CaseScores
from common.metrics.confusion import require_both_classes, require_finite_scores
from common.metrics.score_cells import Counts, Floats, join_small

__all__ = ["CalibrationTable", "ObservedExpected", "combine", "summarise"]


@dataclass(frozen=True)
class ObservedExpected:
    """ratio: altered cases over the sum of P(altered); log_ratio with its standard error; interval: 95 %."""

    ratio: float
    log_ratio: float
    error: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class CalibrationTable:
    """lower: (bins,) lower edge in P(altered); cases, altered: (bins,) counts; predicted: (bins,) sum of
    P(altered); squared_error: sum over all cases of (P(altered) - label)^2.
    """

    lower: Floats
    cases: Counts
    altered: Counts
    predicted: Floats
    squared_error: float

    @property
    def brier(self) -> float:
        """Mean squared error of the risk; 0 is best, 0.25 is a coin."""
        return self.squared_error / int(self.cases.sum())

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of predicted from observed share over these bins, weighted by cases (ECE)."""
        return float(np.abs(self.predicted - self.altered).sum()) / int(self.cases.sum())

    def observed_expected(self) -> ObservedExpected:
        """O/E; Refused `one-class-only`, where its error is not defined."""
        observed, cases = int(self.altered.sum()), int(self.cases.sum())
        require_both_classes(observed, cases - observed)
        log_ratio = float(np.log(observed / self.predicted.sum()))
        error = float(np.sqrt((1 - observed / cases) / observed))
        low, high = np.exp(log_ratio + 1.959963984540054 * error * np.array([-1.0, 1.0]))
        return ObservedExpected(float(np.exp(log_ratio)), log_ratio, error, (float(low), float(high)))

    def merged(self, min_cases: int) -> Self:
        """Neighbouring bins joined, from the lowest on, until each holds at least `min_cases` cases; what is left
        over at the top joins the last bin.
        """
        starts = join_small(self.cases, min_cases)
        return type(self)(
            self.lower[starts],
            np.add.reduceat(self.cases, starts),
            np.add.reduceat(self.altered, starts),
            np.add.reduceat(self.predicted, starts),
            self.squared_error,
        )


def summarise(margins: CaseScores, altered: CaseFlags, *, bins: int = 10) -> CalibrationTable:
    """Runs in the hospital.  InputError `score-not-finite`."""
    require_finite_scores(margins, altered)
    risk = expit(-np.asarray(margins, np.float64))
    lower = np.arange(bins) / bins
    place = np.searchsorted(lower[1:], risk, side="right")
    return CalibrationTable(
        lower,
        np.bincount(place, minlength=bins),
        np.bincount(place[altered], minlength=bins),
        np.bincount(place, weights=risk, minlength=bins).astype(np.float64),
        float(((risk - altered) ** 2).sum()),
    )


def combine(parts: Sequence[CalibrationTable]) -> CalibrationTable:
    """Runs on the server; adds in the order given."""
    if any(not np.array_equal(part.lower, parts[0].lower) for part in parts):
        raise ValueError("tables of different bins cannot be added")
    return CalibrationTable(
        parts[0].lower,
        np.sum([part.cases for part in parts], axis=0),
        np.sum([part.altered for part in parts], axis=0),
        np.sum([part.predicted for part in parts], axis=0),
        float(np.sum([part.squared_error for part in parts])),
    )
