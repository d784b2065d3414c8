"""oracle: what one computer with all the data would get, computed without the federation's code where a
library has the same thing: numpy's quantiles, scikit-learn's standardisation and mutual information.

The federated results must equal these (DESIGN section 1); the replay report prints the differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import f_oneway
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import StandardScaler

from client.site import Site
from client.store.cohort import ScoredCases, SiteCohort, TrainingCases
from client.tasks.load_cohort import case_design
from client.visual_maps import VisualMaps
from common.catalogue import PAPER_SIGNATURE
from common.config.protocol import Protocol
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.networks.fused_head import initial_weights
from common.stats.combat import BatchDesign
from common.stats.selection import decorrelated_k_best, ranking, select_mrmr
from common.tables import TrainingTable
from simulation.federated_training import federated_training
from simulation.statistics.federated_combat import CombatSite, federated_combat

__all__ = ["Oracle", "harmonise_pooled", "pooled_oracle", "pooled_start"]


@dataclass(frozen=True)
class Oracle:
    """scores: of every feature, catalogue order, as state.Selection has them."""

    radiomics_mean: np.ndarray[Any, Any]
    radiomics_deviation: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    model: ModelState
    losses: tuple[float, ...] = ()


def pooled_start(training: TrainingCases, protocol: Protocol, *, repeats: np.ndarray[Any, Any] | None = None) -> Oracle:
    """Standardised and selected (`votes` by mutual information), with the study's first weights.

    repeats: (training cases, repetitions, features), where the protocol admits stable features only.
    """
    protocol = protocol.model_copy(update={"selection": protocol.selection.without_noise()})
    scaler = StandardScaler().fit(training.table.values)
    scores = _scores(training.table, protocol)
    signature = _signature(training.table, scores, protocol, _stable(repeats, protocol))
    columns = [protocol.radiomics.names().index(name) for name in signature]
    mean, deviation = _visual_moments(training.visual)
    model = ModelState(
        harmoniser=Harmoniser(),
        weights=initial_weights(training.visual.length, len(signature), protocol.head, seed=protocol.seed),
        signature=signature,
        radiomics_mean=scaler.mean_[columns],
        radiomics_deviation=scaler.scale_[columns],
        visual_mean=mean,
        visual_deviation=deviation,
    )
    return Oracle(scaler.mean_, scaler.scale_, scores, model)


def pooled_oracle(
    cohort: SiteCohort,
    protocol: Protocol,
    *,
    site: str,
    repeats: np.ndarray[Any, Any] | None = None,
    device: str = "cpu",
) -> Oracle:
    """Standardise, select and train on all training cases of `cohort`, which `harmonise_pooled` has made.

    site: names the stream of batches, so that a federation of this one site trains bit for bit alike.
    repeats: as in `pooled_start`.
    """
    start = pooled_start(cohort.training, protocol, repeats=repeats)
    here = protocol.training.model_copy(update={"encoding": "float32", "broadcast": "float32"})  # nothing travels
    alone = protocol.model_copy(update={"training": here})
    run = federated_training({site: cohort.training}, start.model, alone, device=device)
    return replace(start, model=run.model, losses=run.losses)


def harmonise_pooled(cohort: SiteCohort, site: Site, owner: Mapping[str, str]) -> SiteCohort:
    """All cases harmonised on one computer.

    site: the single centre that holds them; owner: who holds each pseudonym in the federation.
    """
    method = site.protocol.harmonisation.method
    if method == "none":
        return cohort
    views: tuple[ScoredCases, ScoredCases] = (cohort.training, cohort.test)
    if method == "site_zscore":
        owners = [np.array([owner[p] for p in view.pseudonyms]) for view in views]
        values = [view.table.values.copy() for view in views]
        for name in sorted(set(owner.values())):
            scaler = StandardScaler().fit(cohort.training.table.values[owners[0] == name])
            for held, mine in zip(values, owners, strict=True):
                if (mine == name).any():
                    held[mine == name] = scaler.transform(held[mine == name])
    else:
        designs = [_pooled_design(site, view.pseudonyms, owner) for view in views]
        model = federated_combat([CombatSite(cohort.training.table, designs[0])], site.protocol.harmonisation)
        values = [model.apply(0, v.table.values, d) for v, d in zip(views, designs, strict=True)]
    return SiteCohort(
        replace(cohort.training, table=cohort.training.table.with_values(values[0])),
        replace(cohort.test, table=cohort.test.table.with_values(values[1])),
    )


def _pooled_design(site: Site, pseudonyms: tuple[str, ...], owner: Mapping[str, str]) -> BatchDesign:
    """Batches as the federation has them: a site's name is its owner's, not the single centre's."""
    design = case_design(site, pseudonyms)
    here = site.settings.name
    names = (b.replace(here, owner[p], 1) for b, p in zip(design.batch, pseudonyms, strict=True))
    return design if site.protocol.harmonisation.batch == "scanner" else replace(design, batch=tuple(names))


def _stable(repeats: np.ndarray[Any, Any] | None, protocol: Protocol) -> np.ndarray[Any, Any]:
    """Features whose ICC(1,1), by the textbook's analysis of variance, is large enough."""
    limit = protocol.selection.smallest_icc
    if limit is None:
        return np.ones(len(protocol.radiomics.names()), dtype=bool)
    if repeats is None:
        raise ValueError("the protocol asks for stable features and there are no repeated measurements")
    cases, times, _ = repeats.shape
    own = repeats.mean(axis=1)
    between = times * own.var(axis=0, ddof=1)
    within = ((repeats - own[:, None]) ** 2).sum(axis=(0, 1)) / (cases * (times - 1))
    whole = between + (times - 1) * within
    return np.asarray(np.divide(between - within, whole, out=np.zeros_like(whole), where=whole > 0) >= limit)


def _signature(
    table: TrainingTable, scores: np.ndarray[Any, Any], protocol: Protocol, stable: np.ndarray[Any, Any]
) -> tuple[str, ...]:
    """The k best, ties by name; numpy's correlations where the protocol looks at them."""
    selection, names = protocol.selection, protocol.radiomics.names()
    if selection.method == "fixed_signature":
        return PAPER_SIGNATURE
    order = [i for i in ranking(names, scores) if stable[i]]
    if selection.method in {"mutual_information", "anova_f"}:
        return tuple(names[i] for i in order[: selection.k])
    columns = order[: max(selection.candidates, selection.k)]
    candidates, correlation = [names[i] for i in columns], np.corrcoef(table.values[:, columns], rowvar=False)
    if selection.method == "mrmr":
        return select_mrmr(candidates, scores[columns], correlation, selection.k).names
    limit = selection.largest_correlation
    return decorrelated_k_best(candidates, scores[columns], correlation, selection.k, limit=limit).names


def _scores(table: TrainingTable, protocol: Protocol) -> np.ndarray[Any, Any]:
    """Scikit-learn's mutual_info_score over numpy's bins, or scipy's F."""
    selection, values = protocol.selection, table.values
    if selection.method == "anova_f":
        return np.asarray(np.nan_to_num(f_oneway(values[table.altered], values[~table.altered]).statistic))
    if selection.binning == "quantile":
        edges = np.quantile(values, np.arange(1, selection.bins) / selection.bins, axis=0)
    else:
        outer = np.quantile(values, (0.01, 0.99), axis=0)
        if selection.binning == "mean_deviation":
            outer = values.mean(axis=0) + values.std(axis=0) * np.array([[-2.5], [2.5]])
        edges = np.linspace(outer[0], outer[1], selection.bins + 1)[1:-1]
    return np.array(
        [
            mutual_info_score(table.altered, np.searchsorted(edges[:, j], column, side="right"))
            for j, column in enumerate(values.T)
        ]
    )


def _visual_moments(visual: VisualMaps) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Numpy's mean and standard deviation in float64, as they travel in float32."""
    whole = visual.to_array()
    mean = whole.mean(axis=0, dtype=np.float64)
    deviation = whole.std(axis=0, dtype=np.float64)
    constant = deviation <= 1e-12 * np.maximum(np.abs(mean), 1)
    return mean.astype(np.float32), np.where(constant, 1, deviation).astype(np.float32)
