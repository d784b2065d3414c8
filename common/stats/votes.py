"""votes: which features part the classes at one site, chosen so that no single case decides (differential privacy).

    q(f) = |#{pairs with the altered case above} - #{below}| / n       of the n training cases; Mann-Whitney's statistic
    picks: the largest of q(f) + Gumbel noise of scale 2 / epsilon, in their order
    points: the first pick gets as many as there are picks, the last one 1; the server adds them up over the sites

One case more or less moves no q by 1 or more: an altered case that joins a altered and b others moves it by b / (n + 1)
at most upwards and b (2 a + b) / (n (n + 1)) downwards.  And q is of ranks only: it needs no scale, no bins and no
agreement between scanners.

Guarantee: the picks in their order are those of one exponential mechanism after another, without replacement (Durfee and
Rogers 2019, arXiv 1905.04273), each of the stated epsilon; what that costs does not depend on how many features there are.
How far from pooled: a pick is drawn with odds of exp(epsilon q / 2).  Cases of different sites are never compared, so that
what parts the classes by the site alone gets no vote.  A large epsilon gives each site's own ranking
(tests/laws/test_votes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from common.arrays import FeatureVector
from common.stats.moments import require_finite
from common.stats.selection import Chosen, select_k_best
from common.tables import TrainingTable, require_training

__all__ = ["Counts", "Gumbel", "choose", "combine", "separation", "vote"]

Counts = np.ndarray[Any, np.dtype[np.int64]]
Gumbel = Callable[[int, float], FeatureVector]
"""So many numbers of this scale (common/privacy/noise.py)."""


def separation(table: TrainingTable) -> FeatureVector:
    """Runs in the hospital: q of every feature; 0 where there is one class only."""
    require_training(table)
    altered, cases = int(table.altered.sum()), len(table)
    if not cases:
        return np.zeros(len(table.names))
    ranks = rankdata(require_finite(table.values), axis=0)[table.altered].sum(axis=0)
    above = ranks - altered * (altered + 1) / 2
    found: FeatureVector = np.abs(2 * above - altered * (cases - altered)) / cases
    return found


def vote(table: TrainingTable, candidates: Sequence[str], picks: int, epsilon: float, noise: Gumbel) -> Counts:
    """Runs in the hospital: points of every feature of the table; only candidates get any.

    picks: at most as many as there are candidates.  The order in which the candidates are given changes nothing.
    """
    wanted = set(candidates)
    columns = [i for i, name in enumerate(table.names) if name in wanted]
    scores = separation(table)[columns] + noise(len(columns), 2 / epsilon)
    points = np.zeros(len(table.names), np.int64)
    for place, pick in enumerate(np.argsort(-scores, kind="stable")[:picks]):
        points[columns[pick]] = picks - place
    return points


def combine(parts: Sequence[Counts]) -> Counts:
    """Runs on the server."""
    found: Counts = np.sum(parts, axis=0, dtype=np.int64)
    return found


def choose(names: Sequence[str], points: Counts, k: int) -> Chosen:
    """The features of most points, at most k, none without any; ties go by name.  Somebody has voted."""
    named = np.flatnonzero(points)
    return select_k_best([names[i] for i in named], points[named].astype(np.float64), k)
