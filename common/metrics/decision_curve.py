"""decision_curve: is acting on the score better than acting on everyone or no one (Vickers and Elkin 2006)?

    net benefit at threshold t = TP/n - FP/n * t/(1-t),    acting = treating as altered where P(altered) > t

A case-control cohort has the wrong prevalence; then the same sensitivity and specificity are weighed by the
prevalence of the clinic: benefit = sens * prev - (1 - spec) * (1 - prev) * t/(1-t).

Law: the sum of the sites' counts gives the pooled curve, exactly.  Needs sums only.
Disclosure: two neighbouring thresholds tell the cases between them; choose few, far apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from common.arrays import CaseFlags, CaseScores
from common.errors import InputError
from common.metrics.confusion import require_both_classes, require_finite_scores
from common.metrics.score_cells import Counts, Floats

__all__ = ["DecisionCounts", "DecisionCurve", "combine", "finish", "summarise"]


@dataclass(frozen=True)
class DecisionCounts:
    """thresholds: (t,) of P(altered); tp, fp: (t,) altered and other cases acted on; altered, not_altered: all."""

    thresholds: tuple[float, ...]
    tp: Counts
    fp: Counts
    altered: int
    not_altered: int


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit per case at each threshold: of the score, of acting on all; of acting on none it is 0."""

    thresholds: tuple[float, ...]
    score: Floats
    act_on_all: Floats
    prevalence: float


def summarise(margins: CaseScores, altered: CaseFlags, thresholds: Sequence[float]) -> DecisionCounts:
    """Runs in the hospital.  thresholds: shares strictly between 0 and 1; InputError otherwise, and for NaN."""
    require_finite_scores(margins, altered)
    _require_shares("thresholds", thresholds)
    acted = np.asarray(margins)[:, None] < -logit(np.asarray(thresholds, np.float64))
    return DecisionCounts(
        tuple(thresholds),
        (acted & altered[:, None]).sum(axis=0),
        (acted & ~altered[:, None]).sum(axis=0),
        int(altered.sum()),
        int((~altered).sum()),
    )


def combine(parts: Sequence[DecisionCounts]) -> DecisionCounts:
    """Runs on the server; integers, so the order does not matter."""
    if any(part.thresholds != parts[0].thresholds for part in parts):
        raise ValueError("counts at different thresholds cannot be added")
    return DecisionCounts(
        parts[0].thresholds,
        np.sum([part.tp for part in parts], axis=0),
        np.sum([part.fp for part in parts], axis=0),
        sum(part.altered for part in parts),
        sum(part.not_altered for part in parts),
    )


def finish(counts: DecisionCounts, *, target_prevalence: float | None = None) -> DecisionCurve:
    """At the cohort's prevalence, or at the one of the clinic where the score is to be used.

    Refused `one-class-only`.
    """
    require_both_classes(counts.altered, counts.not_altered)
    prevalence = counts.altered / (counts.altered + counts.not_altered)
    if target_prevalence is not None:
        _require_shares("target_prevalence", [target_prevalence])
        prevalence = target_prevalence
    limits = np.asarray(counts.thresholds, np.float64)
    harm = (1 - prevalence) * limits / (1 - limits)
    score = counts.tp / counts.altered * prevalence - counts.fp / counts.not_altered * harm
    return DecisionCurve(counts.thresholds, score, prevalence - harm, prevalence)


def _require_shares(field: str, values: Sequence[float]) -> None:
    if not all(0 < value < 1 for value in values):
        raise InputError(
            "not-a-share",
            field=field,
            problem="Shares strictly between 0 and 1 are needed.",
            fix="Give for example 0.1 to 0.9.",
        )
