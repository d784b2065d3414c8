"""roc: curve, AUC, DeLong's and the bootstrap's intervals; positive = altered = low margin.

Of scores that one place holds; `roc_cells` does the same from counts.  AUC counts pairs with ties as one half.
DeLong et al. 1988 (doi 10.2307/2531595), its interval on the logit scale (`auc_interval`).  The paper's interval fits a
percentile bootstrap (F6), so both are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from common.arrays import CaseFlags, CaseScores
from common.metrics import roc_cells
from common.metrics.auc_interval import logit_interval
from common.metrics.confusion import require_both_classes, require_finite_scores
from common.metrics.score_cells import ScoreCells

__all__ = [
    "auc",
    "bootstrap_interval",
    "delong_error",
    "logit_delong_interval",
    "placements",
    "roc_points",
    "within_site_auc",
]

Points = np.ndarray[Any, np.dtype[np.float64]]


def auc(margins: CaseScores, altered: CaseFlags) -> float:
    """Probability that an altered case scores lower than one that is not."""
    positives, negatives = _split(margins, altered)
    return _mann_whitney(positives, negatives) / (len(positives) * len(negatives))


def roc_points(margins: CaseScores, altered: CaseFlags) -> tuple[Points, Points]:
    """(false positive rate, true positive rate) from (0, 0) to (1, 1), one point per distinct score."""
    positives, negatives = _split(margins, altered)
    limits = np.unique(margins)
    true = np.searchsorted(np.sort(positives), limits, side="right") / len(positives)
    false = np.searchsorted(np.sort(negatives), limits, side="right") / len(negatives)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def delong_error(margins: CaseScores, altered: CaseFlags) -> float:
    """Standard error of the AUC (DeLong); 0 where the classes do not overlap at all."""
    positives, negatives = _split(margins, altered)
    by_positive, by_negative = placements(positives, negatives)
    variance = by_positive.var(ddof=1) / len(positives) if len(positives) > 1 else 0.0
    variance += by_negative.var(ddof=1) / len(negatives) if len(negatives) > 1 else 0.0
    return float(np.sqrt(variance))


def logit_delong_interval(margins: CaseScores, altered: CaseFlags) -> tuple[float, float]:
    """95 % interval, symmetric on the logit scale."""
    positives, negatives = int(altered.sum()), int((~altered).sum())
    return logit_interval(auc(margins, altered), delong_error(margins, altered), positives, negatives)


def bootstrap_interval(
    margins: CaseScores, altered: CaseFlags, *, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % percentile interval, resampled within each class (R40)."""
    return roc_cells.bootstrap_interval(ScoreCells.of_scores(margins, altered), resamples=resamples, rng=rng)


def within_site_auc(margins: CaseScores, altered: CaseFlags, sites: Sequence[str]) -> float | None:
    """AUC over pairs of the same site only: what is left when scanners cannot help.

    None where no site has both classes.
    """
    wins = pairs = 0.0
    names = np.asarray(sites)
    for site in sorted(set(sites)):
        here = names == site
        positives, negatives = margins[here & altered], margins[here & ~altered]
        wins += _mann_whitney(positives, negatives)
        pairs += len(positives) * len(negatives)
    return wins / pairs if pairs else None


def placements(positives: CaseScores, negatives: CaseScores) -> tuple[Points, Points]:
    """Share of the other class that each case beats, ties one half: (positives,) and (negatives,)."""
    low, high = np.sort(positives), np.sort(negatives)
    reached = np.searchsorted(high, positives) + np.searchsorted(high, positives, side="right")
    passed = np.searchsorted(low, negatives) + np.searchsorted(low, negatives, side="right")
    return 1 - reached / (2 * len(high)), passed / (2 * len(low))


def _split(margins: CaseScores, altered: CaseFlags) -> tuple[CaseScores, CaseScores]:
    require_finite_scores(margins, altered)
    require_both_classes(int(altered.sum()), int((~altered).sum()))
    return margins[altered], margins[~altered]


def _mann_whitney(positives: CaseScores, negatives: CaseScores) -> float:
    """Pairs in which the positive scores lower, ties one half."""
    if len(positives) == 0 or len(negatives) == 0:
        return 0.0
    return float(stats.mannwhitneyu(negatives, positives, method="asymptotic").statistic)
