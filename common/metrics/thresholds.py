"""thresholds: where the safety score is cut, each rule by name; chosen on training cells only.

    fixed                 0.5, or another score given beforehand
    youden                largest sensitivity + specificity - 1 (Youden 1950)
    at_sensitivity        highest specificity that keeps a wanted sensitivity; at_specificity the reverse
    prevalence_adjusted   a threshold moved for a site where altered cases are more or less frequent
                          (Saerens et al. 2002, doi 10.1162/089976602753284446)

Law: a threshold from summed exact cells classifies the pooled training cases as the rule on pooled scores
does; from a histogram it is the best of the histogram's edges.  Test cells are refused, by type and by name.
Disclosure: a threshold from exact cells lies next to one patient's score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from common.errors import InputError
from common.metrics.score_cells import Counts, ScoreCells, TrainingCells, require_training_cells

__all__ = ["Threshold", "at_sensitivity", "at_specificity", "fixed", "prevalence", "prevalence_adjusted", "youden"]


@dataclass(frozen=True)
class Threshold:
    """Margins below `margin` are called altered; +inf calls every case altered, -inf none."""

    rule: str
    margin: float

    @property
    def safety_score(self) -> float:
        """The same as a safety score, 0 to 1."""
        return float(expit(self.margin))


def fixed(safety_score: float = 0.5) -> Threshold:
    """A score agreed beforehand."""
    return Threshold("fixed", float(logit(_share("threshold", safety_score))))


def youden(cells: TrainingCells) -> Threshold:
    """Largest J; of equal ones the one of highest sensitivity.  Refused `one-class-only`."""
    called_altered, called_others = _called(cells)
    altered, others = cells.cases
    j = called_altered * others - called_others * altered  # integers, so equal is equal
    best = len(j) - 1 - int(np.argmax(j[::-1]))
    return Threshold("youden", _limits(cells, best))


def at_sensitivity(cells: TrainingCells, wanted: float) -> Threshold:
    """The lowest threshold whose training sensitivity is at least `wanted`."""
    called, _ = _called(cells)
    enough = called >= _share("sensitivity", wanted) * cells.cases[0] - 1e-9
    return Threshold("sensitivity", _limits(cells, int(np.argmax(enough))))


def at_specificity(cells: TrainingCells, wanted: float) -> Threshold:
    """The highest threshold whose training specificity is at least `wanted`."""
    _, called = _called(cells)
    others = cells.cases[1]
    enough = others - called >= _share("specificity", wanted) * others - 1e-9
    return Threshold("specificity", _limits(cells, int(np.flatnonzero(enough)[-1])))


def prevalence(cells: TrainingCells) -> float:
    """Share of altered cases."""
    require_training_cells(cells)
    cells.require_both_classes()
    altered, others = cells.cases
    return altered / (altered + others)


def prevalence_adjusted(threshold: Threshold, *, training: float, site: float) -> Threshold:
    """The threshold that the score corrected for the site's prevalence would be cut at.

    Where classes look the same but altered cases are more frequent, the odds of every case shift by one
    factor; shifting the threshold instead is the same.  Meaningful for a score that is a probability (`fixed`);
    sensitivity and specificity do not depend on prevalence.  Both prevalences from training cases or from
    outside knowledge, never from test labels.
    """
    shift = logit(_share("site prevalence", site)) - logit(_share("training prevalence", training))
    return Threshold(f"{threshold.rule}, prevalence-adjusted", threshold.margin + float(shift))


def _called(cells: TrainingCells) -> tuple[Counts, Counts]:
    """Altered and others that are called altered when 0, 1, ... all cells are."""
    require_training_cells(cells)
    cells.require_both_classes()
    zero = np.zeros(1, np.int64)
    return np.concatenate([zero, np.cumsum(cells.altered)]), np.concatenate([zero, np.cumsum(cells.not_altered)])


def _limits(cells: ScoreCells, called: int) -> float:
    """The margin below which exactly the first `called` cells lie."""
    if called == 0:
        return -np.inf
    return np.inf if called == len(cells.lower) else float(cells.lower[called])


def _share(field: str, value: float) -> float:
    if not 0 < value < 1:
        raise InputError(
            "not-a-share",
            field=field,
            problem="A share strictly between 0 and 1 is needed.",
            fix="Give for example 0.95; at 0 or 1 the rule has no answer.",
        )
    return value
