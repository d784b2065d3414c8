"""ladder: what simpler models reach on the same test cases, and whether the fused classifier beats them
(METHOD section 4, rank 2; F10).

Every comparator is fitted as a federation would: exact logistic regression from sums over sites.  Each difference is
DeLong's for paired scores at each site, pooled over sites by random effects, P values adjusted by Holm.  Beside it
stands what is left of each when age cannot help (`age_adjusted`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.catalogue import SEQUENCES
from common.config.modelling import SelectionSettings
from common.errors import StudyError
from common.metrics import meta_analysis, paired_delong, site_estimates
from common.metrics.multiplicity import holm
from common.metrics.roc import auc, within_site_auc
from common.stats import logistic
from common.stats.logistic import LogisticModel
from common.tables import TrainingTable
from simulation.age_adjusted import adjust_for_age
from simulation.clinical import AGE, CLINICAL, SiteTables
from simulation.statistics.estimate import federated_moments, federated_selection

__all__ = ["Margins", "climb", "fit_logistic"]

RIDGE = 1.0
"""On standardised columns, as scikit-learn's C = 1."""
FEWEST = 2
"""Cases of each class for DeLong's error at one site; a simulation has nothing to hide."""

Margins = Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]


@dataclass(frozen=True)
class _Step:
    name: str
    description: str
    margins: Margins


def climb(
    sites: Sequence[SiteTables], signature: tuple[str, ...], fused: Margins, others: Mapping[str, Margins], *, k: int
) -> list[dict[str, Any]]:
    """One row per comparator, from age alone upwards; the fused classifier comes last.

    sites: harmonised as the study's; fused: its margins of each site's test cases; others: margins of further
    models, by description.
    """
    steps = [
        _logistic_step("age", "age alone", sites, (AGE,), ridge=0.0),
        _logistic_step("clinical", "age, sex and location", sites, CLINICAL),
        *(_one_sequence(sequence, sites, k) for sequence in SEQUENCES if _measured(sequence, sites)),
        _logistic_step("radiomics", f"the signature's {len(signature)} features, no network", sites, signature),
        _logistic_step("radiomics + age", "the signature and age", sites, (*signature, AGE)),
        *(_Step(name, "trained like the fused classifier", margins) for name, margins in others.items()),
    ]
    rows = [_row(step, sites, fused) for step in steps]
    p_values = {row["name"]: row["p"] for row in rows if row["p"] is not None}
    adjusted = holm(p_values)
    for row in rows:
        row["p_holm"] = adjusted.get(row["name"])
    reference = _row(_Step("fused", "the study's classifier", fused), sites, None)
    return [*rows, {**reference, "p_holm": None}]


def fit_logistic(tables: Sequence[TrainingTable], names: tuple[str, ...], *, ridge: float = RIDGE) -> LogisticModel:
    """Exact federated fit on standardised columns."""
    columns = [table.columns(names) for table in tables]
    moments = federated_moments(columns)
    start = logistic.start(names, ridge=ridge, mean=moments.mean, deviation=moments.deviation)
    return logistic.fit_tables(columns, start)


def _logistic_step(
    name: str, description: str, sites: Sequence[SiteTables], names: tuple[str, ...], *, ridge: float = RIDGE
) -> _Step:
    model = fit_logistic([site.training for site in sites], names, ridge=ridge)
    return _Step(name, description, {site.site: model.margins(site.test) for site in sites})


def _measured(sequence: str, sites: Sequence[SiteTables]) -> bool:
    return any(name.startswith(f"{sequence}_") for name in sites[0].training.names)


def _one_sequence(sequence: str, sites: Sequence[SiteTables], k: int) -> _Step:
    """The k best features of one sequence, chosen anew."""
    names = tuple(name for name in sites[0].training.names if name.startswith(f"{sequence}_"))
    tables = [site.training.columns(names) for site in sites]
    chosen = federated_selection(tables, SelectionSettings(k=min(k, len(names)))).chosen.names
    return _logistic_step(f"{sequence} only", f"the {k} best radiomics features of {sequence}", sites, chosen)


def _row(step: _Step, sites: Sequence[SiteTables], fused: Margins | None) -> dict[str, Any]:
    margins = np.concatenate([step.margins[site.site] for site in sites])
    altered = np.concatenate([site.test.altered for site in sites])
    owners = [site.site for site in sites for _ in range(len(site.test))]
    row = {
        "name": step.name,
        "description": step.description,
        "auc": auc(margins, altered),
        "within_site_auc": within_site_auc(margins, altered, owners),
        "difference": None,
        "difference_95": None,
        "p": None,
        "left_out": {},
        **adjust_for_age(sites, [step.margins[site.site] for site in sites]),
    }
    return row if fused is None else {**row, **_difference(step, sites, fused)}


def _difference(step: _Step, sites: Sequence[SiteTables], fused: Margins) -> dict[str, Any]:
    """Fused minus this one, pooled over the sites where it can be told."""
    estimates, left_out = [], {}
    for site in sites:
        both = np.column_stack([fused[site.site], step.margins[site.site]])
        try:
            paired = paired_delong.summarise(("fused", step.name), both, site.test.altered)
            estimates.append(site_estimates.auc_difference(site.site, paired, "fused", step.name, min_cases=FEWEST))
        except StudyError as error:
            left_out[site.site] = error.code
    if not estimates:
        return {"left_out": left_out}
    pooled = meta_analysis.random_effects(estimates)
    interval = list(pooled.interval)
    return {"difference": pooled.estimate, "difference_95": interval, "p": pooled.p, "left_out": left_out}
