"""score_histogram: ROC figures from counts, so that no score leaves a hospital (R51).

Cells are even in the logit of the safety score, with an edge at 0 (threshold 0.5): saturated scores crowd at
0 and 1, where cells even in the probability would tell nothing.  Law: sums of sites' histograms equal the
pooled histogram; the AUC from it is exact up to the stated half-width, sensitivity and specificity at 0.5
are exact.  Disclosure: a cell may hold one case; gates belong to the door.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.arrays import CaseFlags, CaseScores
from common.metrics.confusion import Confusion, require_both_classes

__all__ = ["HistogramView", "summarise", "view"]

LIMIT = 16.0
"""Margins beyond +-16 (scores within 1e-7 of 0 or 1) share the outermost cells."""

Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class HistogramView:
    """auc lies within +-half_width of the exact one, guaranteed."""

    auc: float
    half_width: float
    confusion: Confusion


def summarise(margins: CaseScores, altered: CaseFlags, *, cells: int) -> Counts:
    """Runs in the hospital: (2, cells) counts; rows are not altered, altered."""
    edges = np.linspace(-LIMIT, LIMIT, cells + 1)[1:-1]
    place = np.searchsorted(edges, margins, side="right")
    counts = np.zeros((2, cells), np.int64)
    np.add.at(counts, (altered.astype(int), place), 1)
    return counts


def view(counts: Counts) -> HistogramView:
    """What the server can tell from the summed counts; altered is positive and scores low."""
    negatives, positives = counts[0].astype(float), counts[1].astype(float)
    require_both_classes(int(positives.sum()), int(negatives.sum()))
    above = negatives.sum() - np.cumsum(negatives)
    pairs = positives.sum() * negatives.sum()
    ties = float((positives * negatives).sum())
    half = counts.shape[1] // 2
    return HistogramView(
        auc=float((positives * above).sum() + ties / 2) / pairs,
        half_width=ties / 2 / pairs,
        confusion=Confusion(
            tp=int(positives[:half].sum()),
            fn=int(positives[half:].sum()),
            tn=int(negatives[half:].sum()),
            fp=int(negatives[:half].sum()),
        ),
    )
