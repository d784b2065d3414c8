"""federated_combat: the exchanges of ComBat between sites that lie in one memory: for tests, commands and the
ablation; server/phases/harmonise.py has the same exchanges over the wire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.config.harmonisation import HarmonisationSettings
from common.stats.combat import (
    BatchDesign,
    Location,
    apply_shifts,
    combine_batch_sums,
    combine_cross_products,
    fit_location,
    fit_own_batches,
    fit_shared_batches,
    summarise_batches,
    summarise_cross_products,
)
from common.stats.empirical_bayes import Shift
from common.tables import TrainingTable, require_same_features

__all__ = ["CombatSite", "FederatedCombat", "federated_combat"]


@dataclass(frozen=True)
class CombatSite:
    """One hospital's training cases with their batches and covariates."""

    table: TrainingTable
    design: BatchDesign


@dataclass(frozen=True)
class FederatedCombat:
    """location: shared by all; shared: shifts of scanners that several sites use; own: each site's, in the order of
    the sites, shared ones included.
    """

    location: Location
    shared: dict[str, Shift]
    own: tuple[dict[str, Shift], ...]

    def apply(self, site: int, values: np.ndarray[Any, Any], design: BatchDesign) -> np.ndarray[Any, Any]:
        """Harmonised values of any cases of a site."""
        return apply_shifts(values, design, self.location, self.own[site])


def federated_combat(sites: Sequence[CombatSite], settings: HarmonisationSettings) -> FederatedCombat:
    """Fit on the sites' training cases; the law of common/stats/combat.py.  InputError `features-differ`."""
    require_same_features([site.table for site in sites])
    owners = Counter(batch for site in sites for batch in set(site.design.batch))
    several = tuple(sorted(batch for batch, n in owners.items() if n > 1))
    sums = combine_batch_sums([summarise_batches(s.table, s.design, several) for s in sites])
    middles = {
        batch: (sums.features[i] / sums.cases[i], sums.covariates[i] / sums.cases[i]) for i, batch in enumerate(several)
    }
    parts = [summarise_cross_products(s.table, s.design, middles) for s in sites]
    total = combine_cross_products([combine_cross_products([p[b] for b in sorted(p)]) for p in parts])
    by_batch = {b: combine_cross_products([p[b] for p in parts if b in p]) for b in owners}
    names = sites[0].design.names
    location = fit_location(total, names, reference=by_batch.get(settings.reference_batch))
    found = fit_shared_batches(sums, [by_batch[b] for b in several], location, settings)
    shared = {b: s for b, s in zip(several, found, strict=True) if b != settings.reference_batch}
    own = tuple(fit_own_batches(s.table, s.design, location, settings, shared) for s in sites)
    return FederatedCombat(location, shared, own)
