"""describe_features: the feature card of a site: definitions, and how good its own prepared features are.

Stays at the site; groups of features hold no value of a patient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from client.features.card import feature_card
from client.site import Site
from client.tasks.load_cohort import load_cohort, load_repeats
from common.catalogue import PAPER_SIGNATURE
from common.stats import icc
from common.stats.redundancy import count_independent

__all__ = ["describe_features"]

FEWEST_CASES = 3
GOOD = 0.75
"""Koo and Li 2016: above 0.75 good, above 0.9 excellent."""


def describe_features(site: Site) -> dict[str, Any]:
    """Card with `redundancy` of the training cases, and `stability` where cases were measured repeatedly."""
    protocol = site.protocol
    card = feature_card(protocol.radiomics, fingerprint=protocol.feature_fingerprint())
    table = load_cohort(site, visual=False).training.table
    if len(table) >= FEWEST_CASES:
        everything = count_independent(table)
        card["redundancy"] = {
            "cases": len(table),
            "rule": f"complete linkage, |Spearman| > {everything.threshold}",
            "independent groups of all features": everything.independent,
            "constant features": everything.constant,
        }
        if set(PAPER_SIGNATURE) <= set(table.names):
            signature = count_independent(table.columns(PAPER_SIGNATURE))
            card["redundancy"]["independent groups of the paper's signature"] = signature.independent
            card["redundancy"]["groups of the signature"] = signature.groups
    repeats = load_repeats(site)
    if len(repeats) >= FEWEST_CASES:
        card["stability"] = _stability(repeats, protocol.radiomics.names())
    return card


def _stability(repeats: np.ndarray[Any, Any], names: tuple[str, ...]) -> dict[str, Any]:
    found = icc.finish(icc.summarise(repeats, repeats.mean(axis=(0, 1))))
    good = found.one_way > GOOD
    weakest = np.argsort(np.where(np.isnan(found.one_way), -1, found.one_way))[:10]
    return {
        "cases": found.cases,
        "measurements of each": found.measurements,
        "median ICC(1,1)": float(np.nanmedian(found.one_way)),
        f"features with ICC(1,1) above {GOOD}": int(good.sum()),
        "features with its lower 95 % bound above 0.75": int((found.one_way_low > GOOD).sum()),
        "least stable": [f"{names[i]} {found.one_way[i]:.2f}" for i in weakest],
        "paper's signature": [
            f"{name} {found.one_way[names.index(name)]:.2f}" for name in PAPER_SIGNATURE if name in names
        ],
    }
