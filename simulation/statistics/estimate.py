"""estimate: the exchanges of moments, quantiles and selection between sites that lie in one memory.

server/phases has the same exchanges over the wire; both call common/stats and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.catalogue import PAPER_SIGNATURE
from common.config.modelling import SelectionSettings
from common.stats import anova, contingency, covariance, moments, quantiles
from common.stats.bin_edges import edges_from_moments, edges_from_quantiles, wanted_quantiles
from common.stats.moments import Moments
from common.stats.mutual_information import mutual_information
from common.stats.selection import Chosen, decorrelated_k_best, ranking, select_k_best, select_mrmr
from common.stats.stability import Stability, draw_resamples, measure_stability
from common.stats.standardiser import from_moments
from common.tables import TrainingTable, require_same_features

__all__ = [
    "FederatedSelection",
    "federated_moments",
    "federated_quantiles",
    "federated_selection",
    "federated_stability",
]

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class FederatedSelection:
    """scores: of every feature, in the tables' order; edges: they were counted over."""

    chosen: Chosen
    scores: Array
    edges: Array


def federated_moments(sites: Sequence[TrainingTable]) -> Moments:
    """Two exchanges.  InputError `features-differ`."""
    require_same_features(sites)
    sums = moments.combine_sums([moments.summarise_sums(s) for s in sites])
    mean = sums.total / sums.count
    return moments.finish(sums, moments.combine_squares([moments.summarise_squares(s, mean) for s in sites]))


def federated_quantiles(sites: Sequence[TrainingTable], fractions: Sequence[float]) -> Array:
    """Eleven exchanges: (features, fractions).  InputError `features-differ`."""
    require_same_features(sites)
    cases = sum(len(site) for site in sites)
    search = quantiles.start(len(sites[0].names), fractions=fractions, cases=cases)
    while not quantiles.finished(search):
        counts = quantiles.combine(quantiles.summarise(site, search.prefix, search.step) for site in sites)
        search = quantiles.advance(search, counts)
    return quantiles.finish(search)


def federated_selection(sites: Sequence[TrainingTable], settings: SelectionSettings) -> FederatedSelection:
    """The protocol's selection among the tables' own features; `votes` by mutual information, which has no noise."""
    names, settings = sites[0].names, settings.without_noise()
    if settings.method == "fixed_signature":
        return FederatedSelection(Chosen(PAPER_SIGNATURE), np.zeros(len(names)), np.zeros((len(names), 0)))
    pooled = federated_moments(sites)
    if settings.method == "anova_f":
        scores = anova.f_statistic(anova.combine([anova.summarise(s, pooled.mean) for s in sites]))
        return FederatedSelection(select_k_best(names, scores, settings.k), scores, np.zeros((len(names), 0)))
    edges = _edges(sites, settings, pooled)
    scores = mutual_information(contingency.combine([contingency.summarise(s, edges) for s in sites]))
    if settings.method == "mutual_information":
        return FederatedSelection(select_k_best(names, scores, settings.k), scores, edges)
    columns = ranking(names, scores)[: max(settings.candidates, settings.k)]
    candidates = tuple(names[i] for i in columns)
    correlation = _correlation(sites, candidates, pooled, columns)
    if settings.method == "mrmr":
        chosen = select_mrmr(candidates, scores[columns], correlation, settings.k)
    else:
        limit = settings.largest_correlation
        chosen = decorrelated_k_best(candidates, scores[columns], correlation, settings.k, limit=limit)
    return FederatedSelection(chosen, scores, edges)


def federated_stability(
    sites: Sequence[tuple[str, TrainingTable]], edges: Array, *, k: int, resamples: int, share: float, seed: int
) -> Stability:
    """How often the k best by mutual information stay the same when each site leaves some of its cases out.

    For simulations, or under secure aggregation: with enough tables of nearly the same cases a server could solve
    for single cases, so no message carries them.
    """
    counts = contingency.combine(
        [
            contingency.summarise_resamples(
                table, edges, draw_resamples(table.altered, resamples, share=share, seed=seed, site=name)
            )
            for name, table in sites
        ]
    )
    names = sites[0][1].names
    chosen = np.zeros((resamples, len(names)), dtype=bool)
    for number, table in enumerate(counts):
        chosen[number, ranking(names, mutual_information(table))[:k]] = True
    return measure_stability(chosen)


def _edges(sites: Sequence[TrainingTable], settings: SelectionSettings, pooled: Moments) -> Array:
    wanted = wanted_quantiles(settings.binning, settings.bins)
    if not wanted:
        return edges_from_moments(pooled.mean, pooled.deviation, settings.bins)
    return edges_from_quantiles(settings.binning, federated_quantiles(sites, wanted), settings.bins)


def _correlation(sites: Sequence[TrainingTable], names: tuple[str, ...], pooled: Moments, columns: list[int]) -> Array:
    standardiser = from_moments(Moments(pooled.count, pooled.mean[columns], pooled.deviation[columns]))
    parts = []
    for site in sites:
        table = site.columns(names)
        scored = table.with_values(standardiser.apply(table.values))
        parts.append(covariance.summarise(scored, np.zeros(len(names))))
    return covariance.correlation(covariance.combine(parts))
