"""weighted_roc: the AUC when both classes are weighted to the same ages (METHOD section 4, rank 3).

p = P(altered | covariates), by federated logistic regression on training cases (`stats.logistic`):

    inverse   altered 1 / p, others 1 / (1 - p): both classes look like all cases (Horvitz and Thompson 1952); without
              bound where ages belong to one class only, as below 18 here
    overlap   altered 1 - p, others p: both look like the ages at which both occur (Li, Morgan and Zaslavsky 2018, doi
              10.1080/01621459.2016.1260466); cases whose label the age tells weigh nothing

    site     weights per cell of the margin and class      (additive)
    server   AUC = sum of w_i w_j over pairs in which the altered case scores lower, ties one half

Law: with equal weights `roc_cells.auc`; equal to scikit-learn's weighted AUC of pooled scores when cells are exact,
else within +-half_width of it.
Disclosure: one case in a cell gives away its p, hence its age: open the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from common.arrays import CaseFlags, CaseScores
from common.metrics.confusion import require_both_classes, require_finite_scores
from common.metrics.roc_cells import BoundedAuc

__all__ = ["WeightedCells", "balancing_weights", "combine", "finish", "summarise"]

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class WeightedCells:
    """weights: (2, cells) sums for not altered and altered; squares: (2,) of weights; cases: (2,);
    exact: no cell holds two different margins.
    """

    weights: Floats
    squares: Floats
    cases: np.ndarray[Any, np.dtype[np.int64]]
    exact: bool

    @property
    def effective(self) -> tuple[float, float]:
        """How many equally weighted cases of each class (not altered, altered) say as much (Kish 1965)."""
        total = self.weights.sum(axis=1) ** 2
        kish = np.divide(total, self.squares, out=np.zeros(2), where=self.squares > 0)
        return float(kish[0]), float(kish[1])


def balancing_weights(
    age_margins: CaseScores, altered: CaseFlags, method: Literal["inverse", "overlap"] = "overlap"
) -> Floats:
    """Runs in the hospital; age_margins: minus the logit of p (`LogisticModel.margins`)."""
    towards = np.where(altered, age_margins, -age_margins)
    return np.asarray(1 / expit(-towards) if method == "inverse" else expit(towards))


def summarise(
    margins: CaseScores, altered: CaseFlags, weights: Floats, lower: Floats, *, exact: bool = False
) -> WeightedCells:
    """Runs in the hospital.

    lower: lowest margin of each cell, the same at every site, the first at or below all margins; exact: whether they
    are all distinct margins, as only one place can know.
    """
    require_finite_scores(margins, altered)
    place = np.clip(np.searchsorted(lower, margins, side="right") - 1, 0, None)
    members = [~altered, altered]
    sums = [np.bincount(place[rows], weights[rows], len(lower)) for rows in members]
    squares = np.array([float((weights[rows] ** 2).sum()) for rows in members])
    return WeightedCells(np.array(sums), squares, np.array([int(rows.sum()) for rows in members]), exact)


def combine(parts: Sequence[WeightedCells]) -> WeightedCells:
    """Runs on the server; adds in the order given, which callers fix by site name."""
    return WeightedCells(
        np.sum([part.weights for part in parts], axis=0),
        np.sum([part.squares for part in parts], axis=0),
        np.sum([part.cases for part in parts], axis=0),
        all(part.exact for part in parts),
    )


def finish(cells: WeightedCells) -> BoundedAuc:
    """Refused `one-class-only`."""
    others, altered = cells.weights
    require_both_classes(int(cells.cases[1]), int(cells.cases[0]))
    pairs = float(altered.sum() * others.sum())
    above = others.sum() - np.cumsum(others)
    crossed = 0.0 if cells.exact else float(altered @ others)
    return BoundedAuc(float(altered @ (above + others / 2)) / pairs, crossed / 2 / pairs)
