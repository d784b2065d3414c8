"""contingency: cases per feature, bin and class over common edges.

Law: the sum of the sites' tables is the pooled table, exactly.  Disclosure: small cells; with five bins of
204 cases no pooled cell is below five, but a single site's cells are: open the sum, not the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.tables import TrainingTable, require_training

__all__ = ["combine", "summarise", "summarise_resamples"]

Counts = np.ndarray[Any, np.dtype[np.int64]]
Edges = np.ndarray[Any, np.dtype[np.float64]]


def summarise(table: TrainingTable, edges: Edges) -> Counts:
    """Runs in the hospital: (features, bins, 2) counts; classes are (not altered, altered).

    edges: (features, bins - 1), rising; a value equal to an edge falls into the upper bin.
    """
    require_training(table)
    return _count(_cells(table, edges), edges)


def summarise_resamples(
    table: TrainingTable, edges: Edges, draws: Sequence[np.ndarray[Any, np.dtype[np.bool_]]]
) -> Counts:
    """Runs in the hospital: (draws, features, bins, 2) counts of the cases that each draw keeps."""
    require_training(table)
    cells = _cells(table, edges)
    return np.array([_count(cells[keep], edges) for keep in draws], np.int64).reshape(
        len(draws), *edges.shape[:1], -1, 2
    )


def combine(parts: Sequence[Counts]) -> Counts:
    """Runs on the server: integers, so the order does not matter."""
    return np.asarray(np.sum(parts, axis=0), np.int64)


def _cells(table: TrainingTable, edges: Edges) -> Counts:
    """(cases, features) number of the cell that a case falls into, counted through all features."""
    bins = edges.shape[1] + 1
    place = np.zeros(table.values.shape, np.int64)
    for edge in edges.T:
        place += table.values >= edge
    place += bins * np.arange(len(edges))
    cells: Counts = 2 * place + table.altered[:, None]
    return cells


def _count(cells: Counts, edges: Edges) -> Counts:
    features, bins = edges.shape[0], edges.shape[1] + 1
    return np.bincount(cells.ravel(), minlength=features * bins * 2).reshape(features, bins, 2)
