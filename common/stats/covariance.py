"""covariance: of the training cases, from centred cross-products (two exchanges: means first).

Law: equal to `numpy.cov` of the pooled table to 1e-10 relative, because products are taken about the pooled
mean.  Needs sums only.  Disclosure: one number per pair of features over at least `min_cases` cases; ask for
candidates, not for all features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.arrays import FeatureVector
from common.tables import TrainingTable, require_training

__all__ = ["Products", "combine", "correlation", "finish", "summarise"]

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Products:
    """count: cases; total: (features, features) sum of products about the pooled mean."""

    count: int
    total: Matrix


def summarise(table: TrainingTable, mean: FeatureVector) -> Products:
    """Runs in the hospital, about the pooled mean."""
    require_training(table)
    centred = table.values - mean
    return Products(len(table), centred.T @ centred)


def combine(parts: Sequence[Products]) -> Products:
    """Runs on the server; adds in the order given."""
    return Products(sum(part.count for part in parts), np.sum([part.total for part in parts], axis=0))


def finish(products: Products, *, ddof: int = 1) -> Matrix:
    """Covariance matrix."""
    return np.asarray(products.total / (products.count - ddof))


def correlation(products: Products) -> Matrix:
    """Pearson's correlation; 0 beside a constant feature, 1 on the diagonal."""
    spread = np.sqrt(np.diag(products.total))
    scale = np.outer(spread, spread)
    found = np.divide(products.total, scale, out=np.zeros_like(products.total), where=scale > 0)
    np.fill_diagonal(found, 1.0)
    return np.clip(found, -1, 1)
