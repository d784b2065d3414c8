"""confusion: counts at a threshold and what follows from them, with exact intervals (Clopper-Pearson 1934).

Positive = altered.  A case is called altered when its safety score lies below the threshold; at equality it
is not (R33).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from common.arrays import CaseFlags, CaseScores
from common.errors import InputError, Refused

__all__ = [
    "Confusion",
    "confusion_at",
    "confusion_below",
    "exact_interval",
    "require_both_classes",
    "require_finite_scores",
]


@dataclass(frozen=True)
class Confusion:
    """Cases; adding two gives the pooled one."""

    tp: int
    fn: int
    tn: int
    fp: int

    def __add__(self, other: Confusion) -> Confusion:
        """Pooled counts."""
        return Confusion(self.tp + other.tp, self.fn + other.fn, self.tn + other.tn, self.fp + other.fp)

    @property
    def sensitivity(self) -> float:
        """Share of the altered that are called altered; Refused `one-class-only` without any."""
        require_both_classes(self.tp + self.fn, 1)
        return self.tp / (self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Share of the not altered that are not called altered; Refused `one-class-only` without any."""
        require_both_classes(self.tn + self.fp, 1)
        return self.tn / (self.tn + self.fp)

    @property
    def accuracy(self) -> float:
        """Share that is called right."""
        return (self.tp + self.tn) / (self.tp + self.fn + self.tn + self.fp)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Exact 95 % intervals of the three shares."""
        return {
            "sensitivity": exact_interval(self.tp, self.tp + self.fn),
            "specificity": exact_interval(self.tn, self.tn + self.fp),
            "accuracy": exact_interval(self.tp + self.tn, self.tp + self.fn + self.tn + self.fp),
        }


def confusion_at(margins: CaseScores, altered: CaseFlags, *, threshold: float = 0.5) -> Confusion:
    """Counts at a threshold of the safety score, compared as logits."""
    return confusion_below(margins, altered, np.log(threshold / (1 - threshold)))


def confusion_below(margins: CaseScores, altered: CaseFlags, limit: float) -> Confusion:
    """Counts when margins (logits of the safety score) below the limit are called altered.

    Compared in float64, whatever the margins' type.  InputError `score-not-finite`.
    """
    require_finite_scores(margins, altered)
    called = np.asarray(margins, np.float64) < limit
    return Confusion(
        tp=int(np.sum(called & altered)),
        fn=int(np.sum(~called & altered)),
        tn=int(np.sum(~called & ~altered)),
        fp=int(np.sum(called & ~altered)),
    )


def exact_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(stats.beta.ppf(1 - tail, successes + 1, trials - successes))
    return low, high


def require_both_classes(positives: int, negatives: int) -> None:
    """Refused `one-class-only` where a comparison of classes has one class."""
    if min(positives, negatives) == 0:
        raise Refused(
            "one-class-only",
            field="label",
            problem="All cases have the same label, so classes cannot be compared.",
            fix="Evaluate on cases of both classes.",
        )


def require_finite_scores(margins: CaseScores, altered: CaseFlags) -> None:
    """InputError `score-not-finite` for NaN or infinite margins; nothing is dropped silently."""
    if np.shape(margins) != np.shape(altered):
        raise ValueError(f"{np.shape(margins)} scores with {np.shape(altered)} labels")
    broken = int(np.sum(~np.isfinite(margins)))
    if broken:
        raise InputError(
            "score-not-finite",
            field=f"{broken} case(s)",
            problem="Scores are NaN or infinite.",
            fix="Score the cases again, or exclude them by name.",
        )
