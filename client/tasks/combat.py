"""combat: this site's sums for a federated ComBat fit; training cases only."""

from __future__ import annotations

import numpy as np

from client.site import Site
from client.tasks.load_cohort import case_design, load_cohort
from common.messages.combat import CombatReply, CombatRequest
from common.stats.combat import combine_cross_products, summarise_batches, summarise_cross_products

__all__ = ["answer"]


def answer(request: CombatRequest, site: Site) -> CombatReply:
    """Sums of shared scanners, or cross-products of all scanners together; shared and reference ones also apart."""
    cohort = load_cohort(site, visual=False)
    table, design = cohort.training.table, case_design(site, cohort.training.pseudonyms)
    if request.ask == "shared":
        sums = summarise_batches(table, design, request.shared)
        nothing = np.zeros(0)
        return CombatReply(
            site=site.settings.name,
            apart=request.shared,
            cases=sums.cases,
            features=sums.features,
            covariates=sums.covariates,
            cc=nothing,
            cy=nothing,
            yy=nothing,
        )
    middles = {
        name: (features, covariates)
        for name, features, covariates in zip(request.shared, request.features, request.covariates, strict=True)
    }
    found = summarise_cross_products(table, design, middles)
    apart = tuple(sorted(set(found) & {*request.shared, site.protocol.harmonisation.reference_batch}))
    rows = [combine_cross_products([found[name] for name in sorted(found)]), *(found[name] for name in apart)]
    return CombatReply(
        site=site.settings.name,
        apart=apart,
        cases=np.array([row.cases for row in rows]),
        features=np.array([row.features for row in rows]),
        covariates=np.array([row.covariates for row in rows]),
        cc=np.array([row.cc for row in rows]),
        cy=np.array([row.cy for row in rows]),
        yy=np.array([row.yy for row in rows]),
    )
