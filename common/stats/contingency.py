"""contingency: cases per feature, bin and class over common edges.

Law: the sum of the sites' tables is the pooled table, exactly.  Disclosure: small cells; with five bins of
204 cases no pooled cell is below five, but a single site's cells are: open the sum, not the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.tables import TrainingTable, require_training

__all__ = ["combine", "summarise"]

Counts = np.ndarray[Any, np.dtype[np.int64]]


def summarise(table: TrainingTable, edges: np.ndarray[Any, np.dtype[np.float64]]) -> Counts:
    """Runs in the hospital: (features, bins, 2) counts; classes are (not altered, altered).

    edges: (features, bins - 1), rising; a value equal to an edge falls into the upper bin.
    """
    require_training(table)
    features, bins = edges.shape[0], edges.shape[1] + 1
    counts = np.zeros((features, bins, 2), np.int64)
    labels = table.altered.astype(int)
    for feature in range(features):
        place = np.searchsorted(edges[feature], table.values[:, feature], side="right")
        np.add.at(counts[feature], (place, labels), 1)
    return counts


def combine(parts: Sequence[Counts]) -> Counts:
    """Runs on the server: integers, so the order does not matter."""
    return np.asarray(np.sum(parts, axis=0), np.int64)
