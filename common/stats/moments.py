"""moments: mean and standard deviation of the training cases, from sums (notes: two-round form).

    round 1   n, sum x                 -> mean
    round 2   n, sum (x - mean)^2      -> deviation

Law: equal to pooled to 1e-12 relative for any partition (measured 1e-15), because squares are taken about
the pooled mean; the one-pass form `sum x^2` loses everything when the mean is large.  Needs sums only, so
secure aggregation can carry it.  Disclosure: one sum per feature over at least `min_cases` cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from common.arrays import FeatureVector
from common.errors import InputError
from common.tables import TrainingTable, require_training

__all__ = [
    "Moments",
    "Rows",
    "Squares",
    "Sums",
    "combine_squares",
    "combine_sums",
    "finish",
    "of_one_site",
    "require_finite",
    "summarise_squares",
    "summarise_squares_array",
    "summarise_sums",
    "summarise_sums_array",
]

CONSTANT = 1e-12
"""A feature whose deviation is below this part of its size is constant."""


@dataclass(frozen=True)
class Sums:
    """count: cases; total: sum per feature, float64."""

    count: int
    total: FeatureVector


@dataclass(frozen=True)
class Squares:
    """count: cases; total: sum of squares about the pooled mean per feature, float64."""

    count: int
    total: FeatureVector


@dataclass(frozen=True)
class Moments:
    """mean and population standard deviation (ddof 0, as scikit-learn's StandardScaler).

    deviation is 1 where a feature is constant, so that it passes through as 0.
    """

    count: int
    mean: FeatureVector
    deviation: FeatureVector


def summarise_sums(table: TrainingTable) -> Sums:
    """Runs in the hospital: round 1."""
    require_training(table)
    return summarise_sums_array(table.values)


def summarise_squares(table: TrainingTable, mean: FeatureVector) -> Squares:
    """Runs in the hospital: round 2, about the pooled mean."""
    require_training(table)
    return summarise_squares_array(table.values, mean)


class Rows(Protocol):
    """(cases, features) of any float type, one case at a time: an array, or maps that lie on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Cases, features."""
        ...

    def __iter__(self) -> Iterator[np.ndarray[Any, Any]]: ...


def summarise_sums_array(values: Rows) -> Sums:
    """Round 1; accumulates in float64, case by case, so that a million visual features need no second copy."""
    total = np.zeros(values.shape[1])
    for row in values:
        total += row
    return Sums(values.shape[0], require_finite(total))


def summarise_squares_array(values: Rows, mean: FeatureVector) -> Squares:
    """Round 2, about the pooled mean."""
    total = np.zeros(values.shape[1])
    for row in values:
        total += (row.astype(np.float64) - mean) ** 2
    return Squares(values.shape[0], require_finite(total))


def combine_sums(parts: Sequence[Sums]) -> Sums:
    """Runs on the server; adds in the order given, which callers fix by site name."""
    return Sums(sum(part.count for part in parts), np.sum([part.total for part in parts], axis=0))


def combine_squares(parts: Sequence[Squares]) -> Squares:
    """Runs on the server; adds in the order given."""
    return Squares(sum(part.count for part in parts), np.sum([part.total for part in parts], axis=0))


def finish(sums: Sums, squares: Squares) -> Moments:
    """Mean and deviation of all cases."""
    mean = sums.total / sums.count
    deviation = np.sqrt(squares.total / squares.count)
    constant = deviation <= CONSTANT * np.maximum(np.abs(mean), 1e-300)
    return Moments(sums.count, mean, np.where(constant, 1.0, deviation))


def of_one_site(table: TrainingTable) -> Moments:
    """A site's own mean and deviation; nothing is exchanged."""
    sums = summarise_sums(table)
    return finish(sums, summarise_squares(table, sums.total / sums.count))


def require_finite(total: FeatureVector) -> FeatureVector:
    """The same; InputError `feature-not-finite`."""
    if not np.isfinite(total).all():
        raise InputError(
            "feature-not-finite",
            field=f"{int((~np.isfinite(total)).sum())} feature(s)",
            problem="Features of the training cases are NaN or infinite.",
            fix="Extract the features again, or exclude the case.",
        )
    return total
