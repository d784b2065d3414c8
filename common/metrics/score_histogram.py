"""score_histogram: ROC figures from counts, so that no score leaves a hospital (R51).

Cells are even in the logit of the safety score, with an edge at 0 (threshold 0.5): saturated scores crowd at
0 and 1, where cells even in the probability would tell nothing.  Law: sums of sites' histograms equal the
pooled histogram; the AUC from it is exact up to the stated half-width, sensitivity and specificity at 0.5
are exact.  Disclosure: a cell may hold one case; gates belong to the door.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.arrays import CaseFlags, CaseScores
from common.metrics import roc_cells
from common.metrics.confusion import Confusion, require_finite_scores
from common.metrics.score_cells import Counts, Floats, ScoreCells, TrainingCells

__all__ = ["HistogramView", "cells_of", "summarise", "training_cells_of", "view"]

LIMIT = 16.0
"""Margins beyond +-16 (scores within 1e-7 of 0 or 1) share the outermost cells."""


@dataclass(frozen=True)
class HistogramView:
    """auc lies within +-half_width of the exact one, guaranteed."""

    auc: float
    half_width: float
    confusion: Confusion


def summarise(margins: CaseScores, altered: CaseFlags, *, cells: int) -> Counts:
    """Runs in the hospital: (2, cells) counts; rows are not altered, altered.

    cells: even, so that 0 is an edge.  InputError `score-not-finite` for NaN and infinities.
    """
    require_finite_scores(margins, altered)
    place = np.searchsorted(_lower_edges(cells)[1:], margins, side="right")
    counts = np.zeros((2, cells), np.int64)
    np.add.at(counts, (altered.astype(int), place), 1)
    return counts


def cells_of(counts: Counts) -> ScoreCells:
    """Summed counts as cells, for `roc_cells`, `rank_sum` and the rest."""
    return ScoreCells(_lower_edges(counts.shape[1]), counts[1], counts[0])


def training_cells_of(counts: Counts) -> TrainingCells:
    """Summed counts of training cases as cells from which a threshold may be chosen."""
    return TrainingCells(_lower_edges(counts.shape[1]), counts[1], counts[0])


def view(counts: Counts) -> HistogramView:
    """What the server can tell from the summed counts; altered is positive and scores low."""
    cells = cells_of(counts)
    found = roc_cells.auc(cells)
    return HistogramView(found.auc, found.half_width, cells.confusion_below(0.0))


def _lower_edges(cells: int) -> Floats:
    if cells < 2 or cells % 2:
        raise ValueError(f"a histogram of {cells} cells has no edge at 0")
    edges = np.linspace(-LIMIT, LIMIT, cells + 1)[:-1]
    edges[0] = -np.inf
    edges[cells // 2] = 0.0
    return edges
