"""stability: how often each feature is chosen over resamples, and Nogueira's index of the whole selection.

Nogueira, Sechidis and Brown 2018 (JMLR 18:174): 1 is the same choice every time, 0 what chance gives; above
0.75 is called excellent, below 0.4 poor.  The resamples are drawn by each site from its own cases, by class, from a
named stream; their tables are summed like any other, so the result is that of pooled data with the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.arrays import CaseFlags
from common.seeds import stream

__all__ = ["Stability", "draw_resamples", "measure_stability"]


@dataclass(frozen=True)
class Stability:
    """index with its 95 % interval (normal approximation); frequency: of each feature, catalogue order."""

    index: float
    low: float
    high: float
    frequency: np.ndarray[Any, np.dtype[np.float64]]


def draw_resamples(altered: CaseFlags, draws: int, *, share: float, seed: int, site: str) -> list[CaseFlags]:
    """Runs in the hospital: which training cases each draw keeps; `share` of each class, at least one case."""
    kept = []
    for number in range(draws):
        rng = stream(seed, site, "resample", number)
        keep = np.zeros(len(altered), dtype=bool)
        for label in (True, False):
            members = np.flatnonzero(altered == label)
            keep[rng.permutation(members)[: max(1, round(share * len(members)))]] = True
        kept.append(keep)
    return kept


def measure_stability(chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> Stability:
    """chosen: (resamples, features), at least two resamples."""
    draws, features = chosen.shape
    frequency = chosen.mean(axis=0)
    size = chosen.sum(axis=1)
    mean_size = size.mean()
    chance = mean_size / features * (1 - mean_size / features)
    if draws < 2 or chance == 0:
        return Stability(1.0, 1.0, 1.0, frequency)
    spread = draws / (draws - 1) * frequency * (1 - frequency)
    index = 1 - spread.mean() / chance
    # Their equation 7: the index is a mean of one term per draw.
    terms = (chosen @ frequency) / features - size * mean_size / features**2
    terms += index / 2 * (2 * mean_size * size / features**2 - size / features - mean_size / features + 1)
    terms /= chance
    error = np.sqrt(4 / draws**2 * ((terms - terms.mean()) ** 2).sum())
    return Stability(float(index), float(index - 1.96 * error), float(index + 1.96 * error), frequency)
