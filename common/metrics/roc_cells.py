"""roc_cells: curve, AUC, its errors and intervals from summed cells of the safety margin.

Positive = altered = low margin.  For a case of cell b the share of the other class that it beats is known
from the counts alone, ties one half; DeLong's placements, and with them the error, follow (DeLong et al.
1988, doi 10.2307/2531595).  Resampling patients within each class is, for cells, a multinomial draw of the
counts, so that the bootstrap (R40) needs no patient either.

Law: equal to `roc` of the pooled scores when no cell holds two different margins of both classes (exact
cells); from a histogram the AUC lies within +-half_width of it, guaranteed.
Disclosure: nothing beyond the cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.metrics.auc_interval import logit_interval
from common.metrics.score_cells import Floats, ScoreCells

__all__ = ["BoundedAuc", "auc", "bootstrap_interval", "delong_error", "logit_delong_interval", "roc_points"]

DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class BoundedAuc:
    """auc lies within +-half_width of the AUC of the scores themselves; 0 for exact cells."""

    auc: float
    half_width: float


def auc(cells: ScoreCells) -> BoundedAuc:
    """Probability that an altered case scores lower than one that is not, ties one half."""
    cells.require_both_classes()
    altered, others = cells.cases
    pairs = altered * others
    crossed = 0 if cells.exact else int((cells.altered * cells.not_altered).sum())
    return BoundedAuc(float(_wins(cells.altered, cells.not_altered)) / pairs, crossed / 2 / pairs)


def roc_points(cells: ScoreCells) -> tuple[Floats, Floats]:
    """(false positive rate, true positive rate) from (0, 0) to (1, 1), one point per edge."""
    cells.require_both_classes()
    altered, others = cells.cases
    false = np.concatenate([[0], np.cumsum(cells.not_altered)]) / others
    return false, np.concatenate([[0], np.cumsum(cells.altered)]) / altered


def delong_error(cells: ScoreCells) -> float:
    """Standard error of the AUC (DeLong); 0 where the classes do not overlap at all.

    A class of one case adds nothing to it, which makes it too small: `logit_delong_interval` says so.
    """
    cells.require_both_classes()
    altered, others = cells.cases
    by_altered = (others - np.cumsum(cells.not_altered) + cells.not_altered / 2) / others
    by_other = (np.cumsum(cells.altered) - cells.altered / 2) / altered
    value = float(cells.altered @ by_altered) / altered
    variance = 0.0
    for counts, placements in ((cells.altered, by_altered), (cells.not_altered, by_other)):
        n = int(counts.sum())
        if n > 1:
            variance += float(counts @ (placements - value) ** 2) / (n - 1) / n
    return float(np.sqrt(variance))


def logit_delong_interval(cells: ScoreCells) -> tuple[float, float]:
    """95 % interval, symmetric on the logit scale; see `auc_interval` for AUC 0 and 1."""
    altered, others = cells.cases
    return logit_interval(auc(cells).auc, delong_error(cells), altered, others)


def bootstrap_interval(cells: ScoreCells, *, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile interval, resampled within each class (R40): in distribution the patients' bootstrap."""
    cells.require_both_classes()
    altered, others = cells.cases
    step = max(1, DRAWS_AT_ONCE // len(cells.lower))
    values = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        positives = rng.multinomial(altered, cells.altered / altered, size=size)
        negatives = rng.multinomial(others, cells.not_altered / others, size=size)
        values.append(_wins(positives, negatives) / (altered * others))
    low, high = np.quantile(np.concatenate(values), (0.025, 0.975))
    return float(low), float(high)


def _wins(altered: np.ndarray[Any, Any], others: np.ndarray[Any, Any]) -> Floats:
    """Pairs in which the altered case scores lower, ties one half; cells on the last axis."""
    above = others.sum(axis=-1, keepdims=True) - np.cumsum(others, axis=-1)
    return np.asarray((altered * (above + others / 2)).sum(axis=-1), np.float64)
