"""score_cells: cases per cell of the safety margin and class, in rising order: all that a ROC figure needs.

A cell holds the margins from its lower edge up to, but not including, the next cell's.  Cells come from a
histogram of fixed edges (`score_histogram`), from the exact search (`score_search`) or from scores that one
place holds anyway (`of_scores`); `roc_cells`, `rank_sum` and `thresholds` do not ask which.

Law: adding cells of the same edges equals the cells of all cases, exactly.  Needs sums only.
Disclosure: exact cells are the full ROC curve and most bits of every score; with it and part of the data the
other labels can be recovered (Matthews and Harel 2013).  Open sums, not parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from common.arrays import CaseFlags, CaseScores
from common.errors import Refused
from common.metrics.confusion import Confusion, require_both_classes, require_finite_scores

__all__ = ["Counts", "Floats", "ScoreCells", "TrainingCells", "join_small", "require_training_cells"]

Counts = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class ScoreCells:
    """lower: (cells,) lowest margin of each cell, rising, the first may be -inf;
    altered, not_altered: (cells,) cases; exact: no cell holds both classes unless at one and the same margin.
    """

    lower: Floats
    altered: Counts
    not_altered: Counts
    exact: bool = False

    def __post_init__(self) -> None:
        if not len(self.lower) == len(self.altered) == len(self.not_altered) > 0:
            raise ValueError("cells need one lower edge and two counts each")

    @classmethod
    def of_scores(cls, margins: CaseScores, altered: CaseFlags) -> Self:
        """One cell per distinct margin, where the scores are at hand."""
        require_finite_scores(margins, altered)
        lower, place = np.unique(np.asarray(margins, np.float64), return_inverse=True)
        counts = np.zeros((2, len(lower)), np.int64)
        np.add.at(counts, (altered.astype(int), place), 1)
        return cls(lower, counts[1], counts[0], exact=True)

    def __add__(self, other: ScoreCells) -> Self:
        """Pooled cells; both must have the same edges, and training cells stay training cells."""
        if type(other) is not type(self) or not np.array_equal(self.lower, other.lower):
            raise ValueError("cells of different edges or kinds cannot be added")
        return type(self)(
            self.lower,
            self.altered + other.altered,
            self.not_altered + other.not_altered,
            exact=self.exact and other.exact,
        )

    @property
    def cases(self) -> tuple[int, int]:
        """Altered and not altered cases."""
        return int(self.altered.sum()), int(self.not_altered.sum())

    def require_both_classes(self) -> None:
        """Refused `one-class-only`."""
        require_both_classes(*self.cases)

    def merged(self, min_cases: int) -> Self:
        """Neighbouring cells joined, from the lowest on, until each holds at least `min_cases` cases; what is left
        over at the top joins the last one.  A curve from these may be shown; its AUC carries a bound.
        """
        total = self.altered + self.not_altered
        starts = join_small(total, min_cases)
        return type(self)(
            self.lower[starts],
            np.add.reduceat(self.altered, starts),
            np.add.reduceat(self.not_altered, starts),
            exact=self.exact and len(starts) == len(total),
        )

    def confusion_below(self, limit: float) -> Confusion:
        """Counts when margins below the limit are called altered.

        Exact, so the limit must be an edge (or lie outside of all cells); otherwise Refused
        `threshold-inside-a-cell`.
        """
        called = int(np.searchsorted(self.lower, limit, side="left"))
        split_cell = called > 0 and limit != np.inf and (called == len(self.lower) or self.lower[called] != limit)
        if split_cell and self.altered[called - 1] + self.not_altered[called - 1] > 0:
            raise Refused(
                "threshold-inside-a-cell",
                field="threshold",
                problem="The threshold divides a cell of the histogram, so its counts are not known.",
                fix="Use a threshold on an edge, or let the sites count at this threshold.",
            )
        tp, fp = int(self.altered[:called].sum()), int(self.not_altered[:called].sum())
        altered, others = self.cases
        return Confusion(tp=tp, fn=altered - tp, tn=others - fp, fp=fp)


@dataclass(frozen=True)
class TrainingCells(ScoreCells):
    """Cells of cases that may be learned from: the only ones from which a threshold is chosen."""


def join_small(cases: Counts, min_cases: int) -> list[int]:
    """First index of each run of neighbouring cells that together hold at least `min_cases`."""
    starts, held = [0], 0
    left = int(cases.sum())
    for i, count in enumerate(cases):
        if held >= min_cases and left >= min_cases:
            starts.append(i)
            held = 0
        held += int(count)
        left -= int(count)
    return starts


def require_training_cells(cells: ScoreCells) -> None:
    """Refused `fit-on-test-cases` for anything else; the run-time half of the type rule."""
    if not isinstance(cells, TrainingCells):
        raise Refused(
            "fit-on-test-cases",
            field=type(cells).__name__,
            problem="Something tried to choose a threshold on cases that are not training cases.",
            fix="Pass the cells of the training cases.",
        )
