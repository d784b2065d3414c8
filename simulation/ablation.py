"""ablation: what each way of harmonising does to scanner effects, to the signature and to a plain classifier
(METHOD section 4, rank 13).

none           features as they are, also in the classifier
global z-score pooled mean and deviation: takes no scanner effect out, only scales
site z-score   each site by its own training cases
ComBat         scanners as batches, age and sex kept

Selection and a ridge logistic regression on the signature, both federated and exact, are done anew for each; the
fused classifier of the study uses the one its protocol names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from client.store.cohort import SiteCohort
from common.config.harmonisation import HarmonisationSettings
from common.config.modelling import SelectionSettings
from common.errors import StudyError
from common.metrics.roc import auc, within_site_auc
from common.stats import explained_variance, logistic, moments
from common.stats.combat import BatchDesign
from common.stats.standardiser import from_moments
from common.tables import TestTable, TrainingTable
from simulation.ladder import fit_logistic
from simulation.statistics.estimate import federated_moments, federated_selection
from simulation.statistics.federated_combat import CombatSite, federated_combat

__all__ = ["AblationSite", "compare_harmonisers"]

Harmoniser = Literal["none", "global z-score", "site z-score", "ComBat"]
HARMONISERS: tuple[Harmoniser, ...] = ("none", "global z-score", "site z-score", "ComBat")


@dataclass(frozen=True)
class AblationSite:
    """One hospital's cases as they were extracted, with scanners and covariates of both views."""

    name: str
    cohort: SiteCohort
    training: BatchDesign
    test: BatchDesign


def compare_harmonisers(
    sites: Sequence[AblationSite], settings: HarmonisationSettings, *, k: int
) -> list[dict[str, Any]]:
    """One row per harmoniser: scanner's share of variance, signature, test AUC pooled and within sites."""
    rows: list[dict[str, Any]] = []
    for how in HARMONISERS:
        tables = _harmonised(sites, how, settings)
        training = [train for train, _ in tables]
        chosen = federated_selection(training, SelectionSettings(k=k)).chosen.names
        first = set(rows[0]["signature"]) if rows else set(chosen)
        rows.append(
            {
                "harmoniser": how,
                "variance_explained_by_scanner": _explained(sites, training),
                "explained_by_chance": _by_chance(sites),
                "signature": list(chosen),
                "in_common_with_none": len(first & set(chosen)),
                **_classify(sites, tables, chosen, scaled=how != "none"),
            }
        )
    return rows


def _harmonised(
    sites: Sequence[AblationSite], how: Harmoniser, settings: HarmonisationSettings
) -> list[tuple[TrainingTable, TestTable]]:
    raw = [(s.cohort.training.table, s.cohort.test.table) for s in sites]
    if how in {"none", "global z-score"}:
        return raw
    if how == "site z-score":
        own = [from_moments(moments.of_one_site(train)) for train, _ in raw]
        return [
            (train.with_values(z.apply(train.values)), test.with_values(z.apply(test.values)))
            for z, (train, test) in zip(own, raw, strict=True)
        ]
    model = federated_combat([CombatSite(s.cohort.training.table, s.training) for s in sites], settings)
    return [
        (
            train.with_values(model.apply(i, train.values, site.training)),
            test.with_values(model.apply(i, test.values, site.test)),
        )
        for i, (site, (train, test)) in enumerate(zip(sites, raw, strict=True))
    ]


def _explained(sites: Sequence[AblationSite], training: Sequence[TrainingTable]) -> float:
    """Mean over features."""
    mean = federated_moments(training).mean
    parts = [
        explained_variance.summarise(table, site.training.batch, mean)
        for site, table in zip(sites, training, strict=True)
    ]
    return float(explained_variance.finish(explained_variance.combine(parts)).mean())


def _by_chance(sites: Sequence[AblationSite]) -> float:
    """What as many batches explain of features that know nothing of them."""
    batches = {batch for site in sites for batch in site.training.batch}
    cases = sum(len(site.training.batch) for site in sites)
    return (len(batches) - 1) / (cases - 1)


def _classify(
    sites: Sequence[AblationSite],
    tables: Sequence[tuple[TrainingTable, TestTable]],
    chosen: tuple[str, ...],
    *,
    scaled: bool,
) -> Mapping[str, Any]:
    """Ridge logistic regression on the signature; without scaling the ridge meets features of any unit."""
    training = [train for train, _ in tables]
    try:
        if scaled:
            model = fit_logistic(training, chosen)
        else:
            model = logistic.fit_tables([t.columns(chosen) for t in training], logistic.start(chosen, ridge=1.0))
    except StudyError as error:
        return {"test_auc": None, "within_site_auc": None, "refused": error.code}
    margins = np.concatenate([model.margins(test) for _, test in tables])
    altered = np.concatenate([test.altered for _, test in tables])
    owners = [site.name for site, (_, test) in zip(sites, tables, strict=True) for _ in range(len(test))]
    return {
        "test_auc": auc(margins, altered),
        "within_site_auc": within_site_auc(margins, altered, owners),
        "refused": None,
    }
