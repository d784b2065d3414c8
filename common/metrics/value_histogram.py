"""value_histogram: a whole-numbered variable (age in years) in two groups, as counts per value.

For whole numbers the summed counts are the pooled column in rising order, so every test of it is exact from one
sum: Shapiro-Wilk, Levene, t, Welch and rank-sum, medians and quartiles.

Law: `groups` gives the sorted pooled values, for any partition.  Needs sums only.
Disclosure: a year that one patient has is a cell of one: open the sum over sites, and not where that is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.arrays import CaseFlags
from common.errors import InputError
from common.metrics.group_moments import require_finite_values

__all__ = ["ValueHistogram", "combine", "summarise"]

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class ValueHistogram:
    """counts: (2, values) cases of the first and the second group at lowest, lowest + 1, ..."""

    lowest: int
    counts: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def groups(self) -> tuple[Floats, Floats]:
        """The pooled values of both groups in rising order."""
        values = self.lowest + np.arange(self.counts.shape[1], dtype=np.float64)
        return np.repeat(values, self.counts[0]), np.repeat(values, self.counts[1])


def summarise(values: Floats, first: CaseFlags, *, lowest: int = 0, highest: int = 120) -> ValueHistogram:
    """Runs in the hospital; lowest, highest: agreed beforehand, e.g. 0 to 120 years.

    InputError `value-not-finite`, `value-not-whole`, `value-out-of-range`.
    """
    require_finite_values(values)
    _require(values == np.floor(values), "value-not-whole", "Round the values alike at every site.")
    _require((values >= lowest) & (values <= highest), "value-out-of-range", "Correct the values or widen the range.")
    place = values.astype(np.int64) - lowest
    counts = [np.bincount(place[group], minlength=highest - lowest + 1) for group in (first, ~first)]
    return ValueHistogram(lowest, np.array(counts, np.int64))


def combine(parts: Sequence[ValueHistogram]) -> ValueHistogram:
    """Runs on the server; integers, so the order does not matter."""
    if any((p.lowest, p.counts.shape) != (parts[0].lowest, parts[0].counts.shape) for p in parts):
        raise ValueError("histograms of different ranges cannot be added")
    return ValueHistogram(parts[0].lowest, np.sum([p.counts for p in parts], axis=0))


def _require(good: np.ndarray[Any, Any], code: str, fix: str) -> None:
    broken = int((~good).sum())
    if broken:
        raise InputError(code, field=f"{broken} case(s)", problem="Values do not fit the agreed histogram.", fix=fix)
