"""calibration_in_the_large: the one shift of the predicted logit after which risks add up to what is observed.

    sum over cases of expit(predicted logit + intercept) = altered cases;   0 is ideal, above 0: risk understated

The predicted logit of being altered is minus the margin.  A site sends how many cases it has, how many are
altered, the sum of residuals and of their variances; the server takes Newton steps inside a bracket, because
saturated scores make the sum a staircase on which plain Newton leaps away.

Law: equal to the pooled logistic fit with the score as offset (statsmodels 1e-9), for any partition; a site of one
case or one class takes part.  Needs sums only: four numbers a round; 4-6 rounds, up to 25 for saturated scores.
Disclosure: the residual of a single case tells its score; open the sum, or a site of at least `min_cases`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from common.arrays import CaseFlags, CaseScores
from common.errors import Refused
from common.metrics.confusion import require_both_classes, require_finite_scores

__all__ = ["InTheLarge", "ShiftSearch", "ShiftSums", "advance", "combine", "finish", "fit_sites", "start", "summarise"]

TOLERANCE = 1e-10
MAX_ROUNDS = 200
"""Never needed: each round halves the bracket at least."""


@dataclass(frozen=True)
class InTheLarge:
    """The intercept at slope 1 and its standard error."""

    intercept: float
    error: float
    cases: int


@dataclass(frozen=True)
class ShiftSums:
    """residual: sum of (label - risk); information: sum of risk (1 - risk); at the intercept asked about."""

    cases: int
    altered: int
    residual: float
    information: float


@dataclass(frozen=True)
class ShiftSearch:
    """asked: the intercept to evaluate next; low, high: known to lie below and above the answer."""

    asked: float = 0.0
    low: float = -np.inf
    high: float = np.inf
    sums: ShiftSums | None = None
    rounds: int = 0
    converged: bool = False


def start() -> ShiftSearch:
    """From 0, where a calibrated score ends."""
    return ShiftSearch()


def summarise(margins: CaseScores, altered: CaseFlags, search: ShiftSearch) -> ShiftSums:
    """Runs in the hospital.  InputError `score-not-finite`."""
    require_finite_scores(margins, altered)
    logits = search.asked - np.asarray(margins, np.float64)
    risk, safety = expit(logits), expit(-logits)
    return ShiftSums(
        len(altered),
        int(altered.sum()),
        float(np.where(altered, safety, -risk).sum()),
        float((risk * safety).sum()),
    )


def combine(parts: Sequence[ShiftSums]) -> ShiftSums:
    """Runs on the server; adds in the order given, which callers fix by site name."""
    return ShiftSums(
        sum(part.cases for part in parts),
        sum(part.altered for part in parts),
        float(np.sum([part.residual for part in parts])),
        float(np.sum([part.information for part in parts])),
    )


def advance(search: ShiftSearch, sums: ShiftSums) -> ShiftSearch:
    """Runs on the server.  Refused `one-class-only`, `shift-undetermined`."""
    require_both_classes(sums.altered, sums.cases - sums.altered)
    _require_determined(search, sums)
    low, high = (search.asked, search.high) if sums.residual > 0 else (search.low, search.asked)
    step = _newton(sums)
    converged = abs(step) <= TOLERANCE * max(1.0, abs(search.asked))
    wanted = search.asked + step
    reach = 4.0 * 2.0**search.rounds
    if not converged and not (low < wanted < high and abs(step) <= reach):
        outward = float(np.copysign(reach, sums.residual))
        wanted = (low + high) / 2 if np.isfinite(low + high) else search.asked + outward
    return replace(search, asked=wanted, low=low, high=high, sums=sums, rounds=search.rounds + 1, converged=converged)


def finish(search: ShiftSearch) -> InTheLarge:
    """Of a converged search."""
    if search.sums is None or not search.converged:
        raise ValueError("the search has not converged; advance it first")
    return InTheLarge(search.asked, float(1 / np.sqrt(search.sums.information)), search.sums.cases)


def fit_sites(parts: Sequence[tuple[CaseScores, CaseFlags]]) -> InTheLarge:
    """All rounds at once over (margins, altered) of each site, where one process holds them."""
    search = start()
    while not search.converged:
        search = advance(search, combine([summarise(m, a, search) for m, a in parts]))
    return finish(search)


def _newton(sums: ShiftSums) -> float:
    return sums.residual / sums.information if sums.information > 1e-12 else np.inf


def _require_determined(search: ShiftSearch, sums: ShiftSums) -> None:
    """On a stair of the staircase every shift fits, to rounding."""
    flat = sums.information < 1e-6 and abs(sums.residual) < 1e-6
    if flat or search.rounds >= MAX_ROUNDS:
        raise Refused(
            "shift-undetermined",
            field="scores",
            problem="Scores are so extreme that many shifts fit equally well.",
            fix="Recalibrate with a slope (logistic), or report slope and bins only.",
        )
