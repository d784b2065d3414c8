"""anova: the F statistic of each feature between the classes, from sums by class about the pooled mean.

Law: equal to `scipy.stats.f_oneway` of the pooled table to 1e-7 relative (scikit-learn's `f_classif` takes squares about
zero and loses digits where a mean is many deviations away).  Needs sums only.
Disclosure: one sum per feature and class over at least `min_cases` cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.arrays import FeatureVector
from common.tables import TrainingTable, require_training

__all__ = ["ClassSums", "combine", "f_statistic", "summarise"]


@dataclass(frozen=True)
class ClassSums:
    """cases: (2,) not altered, altered; total: (2, features) sums about the pooled mean; squares: (features)."""

    cases: np.ndarray[Any, np.dtype[np.float64]]
    total: np.ndarray[Any, np.dtype[np.float64]]
    squares: FeatureVector


def summarise(table: TrainingTable, mean: FeatureVector) -> ClassSums:
    """Runs in the hospital, about the pooled mean."""
    require_training(table)
    centred = table.values - mean
    members = np.array([~table.altered, table.altered], dtype=float)
    return ClassSums(members.sum(axis=1), members @ centred, np.einsum("ij,ij->j", centred, centred))


def combine(parts: Sequence[ClassSums]) -> ClassSums:
    """Runs on the server; adds in the order given."""
    return ClassSums(
        np.sum([p.cases for p in parts], axis=0),
        np.sum([p.total for p in parts], axis=0),
        np.sum([p.squares for p in parts], axis=0),
    )


def f_statistic(sums: ClassSums) -> FeatureVector:
    """F with 1 and n - 2 degrees of freedom; 0 for a constant feature."""
    between = (sums.total**2 / sums.cases[:, None]).sum(axis=0)
    within = np.maximum(sums.squares - between, 0)
    freedom = sums.cases.sum() - len(sums.cases)
    return np.asarray(np.divide(between, within / freedom, out=np.zeros_like(between), where=within > 0))
