"""explained_variance: which share of each feature's variance the batches (scanners, sites) explain.

eta^2 = between / total sum of squares about the pooled mean; 0 when batches have one mean, 1 when nothing else
varies.  By chance it is about (batches - 1) / (cases - 1).

Law: equal to pooled to 1e-10.  A scanner that several sites use is summed first.  Disclosure: with one scanner per
site the parts give away how far its mean lies from the pooled one: open their sum only, or use it in a simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.arrays import FeatureVector
from common.tables import TrainingTable, require_training

__all__ = ["Spread", "combine", "finish", "summarise"]


@dataclass(frozen=True)
class Spread:
    """batches: name -> (cases, sum about the pooled mean per feature); squares: about it, per feature."""

    batches: Mapping[str, tuple[int, FeatureVector]]
    squares: FeatureVector


def summarise(table: TrainingTable, batch: Sequence[str], mean: FeatureVector) -> Spread:
    """Runs in the hospital, about the pooled mean."""
    require_training(table)
    centred, names = table.values - mean, np.asarray(batch)
    found = {str(b): (int((names == b).sum()), centred[names == b].sum(axis=0)) for b in sorted(set(batch))}
    return Spread(found, np.einsum("ij,ij->j", centred, centred))


def combine(parts: Sequence[Spread]) -> Spread:
    """Adds in the order given."""
    total: dict[str, tuple[int, Any]] = {}
    for part in parts:
        for name, (cases, away) in part.batches.items():
            before = total.get(name, (0, 0.0))
            total[name] = (before[0] + cases, before[1] + away)
    return Spread(total, np.sum([part.squares for part in parts], axis=0))


def finish(spread: Spread) -> FeatureVector:
    """Share per feature; 0 for a constant one."""
    between = np.sum([away**2 / cases for cases, away in spread.batches.values()], axis=0)
    return np.asarray(np.divide(between, spread.squares, out=np.zeros_like(spread.squares), where=spread.squares > 0))
