"""selection: which features to keep, from scores and correlations that sites have summed (METHOD R26).

Every rule is deterministic: scores that agree to 12 digits are ties, and ties go by name, so that every
computer and every partition chooses alike (scikit-learn's SelectKBest keeps whatever stands last).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import Refused

__all__ = ["Chosen", "decorrelated_k_best", "ranking", "select_k_best", "select_mrmr"]

DIGITS = 12
"""Scores that agree to this many digits are ties; below lies the arithmetic's noise."""

Scores = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Chosen:
    """names: the k best, best first; ties: features whose score equals the last one chosen."""

    names: tuple[str, ...]
    ties: tuple[str, ...] = ()


def ranking(names: Sequence[str], scores: Scores) -> list[int]:
    """All features, best first."""
    rounded = np.round(scores, DIGITS)
    return sorted(range(len(names)), key=lambda i: (-rounded[i], names[i]))


def select_k_best(names: Sequence[str], scores: Scores, k: int) -> Chosen:
    """The k highest scores."""
    rounded, order = np.round(scores, DIGITS), ranking(names, scores)
    chosen, rest = order[:k], order[k:]
    last = rounded[chosen[-1]]
    tied = [i for i in order if rounded[i] == last] if rest and rounded[rest[0]] == last else []
    return Chosen(tuple(names[i] for i in chosen), tuple(names[i] for i in tied))


def decorrelated_k_best(names: Sequence[str], scores: Scores, correlation: Scores, k: int, *, limit: float) -> Chosen:
    """The best features of which no two correlate beyond `limit` (absolute); best first.

    names, scores, correlation: of the candidates.  Refused `too-few-candidates` when they are used up.
    """
    chosen: list[int] = []
    for i in ranking(names, scores):
        if all(abs(correlation[i, j]) <= limit for j in chosen):
            chosen.append(i)
        if len(chosen) == k:
            return Chosen(tuple(names[j] for j in chosen))
    raise _too_few(len(chosen), k)


def select_mrmr(names: Sequence[str], relevance: Scores, correlation: Scores, k: int) -> Chosen:
    """Minimum redundancy, maximum relevance (Peng et al. 2005, doi 10.1109/TPAMI.2005.159), difference form.

    relevance: mutual information with the class in nats.  Redundancy is the mean mutual information with the
    features chosen so far, by the formula for normal pairs, -ln(1 - r^2) / 2: exact from federated correlations,
    where Peng's tables of every pair would need k x 25 counts per candidate.
    """
    if len(names) < k:
        raise _too_few(len(names), k)
    squares = np.minimum(correlation**2, 1 - 1e-12)
    redundancy = -0.5 * np.log1p(-squares)
    chosen = [ranking(names, relevance)[0]]
    while len(chosen) < k:
        score = relevance - redundancy[:, chosen].mean(axis=1)
        score[chosen] = -np.inf
        chosen.append(ranking(names, score)[0])
    return Chosen(tuple(names[i] for i in chosen))


def _too_few(found: int, k: int) -> Refused:
    return Refused(
        "too-few-candidates",
        field="selection.candidates",
        problem=f"Only {found} of {k} features could be chosen among the candidates.",
        fix="Raise selection.candidates or largest_correlation, or lower k.",
    )
