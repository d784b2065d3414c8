"""histogram: cases per feature and bin over common edges, whatever their class.

Law: the sum of the sites' histograms is the pooled one, exactly.  Disclosure: small cells, as in contingency: open the
sum, not the parts; outer bins of one case give away an extreme.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.stats import contingency
from common.tables import TrainingTable

__all__ = ["combine", "summarise"]

Counts = np.ndarray[Any, np.dtype[np.int64]]


def summarise(table: TrainingTable, edges: np.ndarray[Any, np.dtype[np.float64]]) -> Counts:
    """Runs in the hospital: (features, bins) counts; edges: (features, bins - 1), rising; equal falls into the upper."""
    return np.asarray(contingency.summarise(table, edges).sum(axis=2))


def combine(parts: Sequence[Counts]) -> Counts:
    """Runs on the server: integers, so the order does not matter."""
    return np.asarray(np.sum(parts, axis=0), np.int64)
