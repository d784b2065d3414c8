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
from common.errors import InputError, Refused
from common.metrics.confusion import Confusion, require_both_classes

__all__ = ["Counts", "Floats", "ScoreCells", "TrainingCells", "require_finite_scores", "require_training_cells"]

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


def require_training_cells(cells: ScoreCells) -> None:
    """Refused `fit-on-test-cases` for anything else; the run-time half of the type rule."""
    if not isinstance(cells, TrainingCells):
        raise Refused(
            "fit-on-test-cases",
            field=type(cells).__name__,
            problem="Something tried to choose a threshold on cases that are not training cases.",
            fix="Pass the cells of the training cases.",
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
