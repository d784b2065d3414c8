"""comparator_ladder: is the model better than simpler ones (age alone, clinical, radiomics ...)? (METHOD 4, F10)

For each comparator: paired difference of AUC at every site that may show it, pooled by random effects; P values of
all rungs adjusted by Holm.  A site that cannot take part is named with the code of its refusal.

Law: the order of sites and of comparators does not matter.  Disclosure: as `site_estimates`: sites with at least
`min_cases` of each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import Refused
from common.metrics.meta_analysis import MetaAnalysis, Method, random_effects
from common.metrics.multiplicity import holm
from common.metrics.paired_delong import PairedAucs
from common.metrics.site_estimates import MIN_CASES, SiteEstimate, auc_difference

__all__ = ["Rung", "comparator_ladder"]


@dataclass(frozen=True)
class Rung:
    """gain: AUC of the reference minus that of the comparator over sites, None where no site may show it; holm_p:
    its P among all rungs; withheld: code of the refusal by site.
    """

    comparator: str
    gain: MetaAnalysis | None
    holm_p: float | None
    withheld: dict[str, str]


def comparator_ladder(
    paired: Mapping[str, PairedAucs], *, reference: str, method: Method = "reml", min_cases: int = MIN_CASES
) -> list[Rung]:
    """paired: by site, all with the same scores, the reference among them; one rung for each of the others."""
    names = next(iter(paired.values())).names
    if reference not in names or any(part.names != names for part in paired.values()):
        raise ValueError("every site must give the same scores, the reference among them")
    gains: dict[str, MetaAnalysis | None] = {}
    withheld: dict[str, dict[str, str]] = {}
    for comparator in (name for name in names if name != reference):
        shown, withheld[comparator] = _site_gains(paired, reference, comparator, min_cases)
        gains[comparator] = random_effects(shown, method=method) if shown else None
    adjusted = holm({name: gain.p for name, gain in gains.items() if gain is not None})
    return [Rung(name, gain, adjusted.get(name), withheld[name]) for name, gain in gains.items()]


def _site_gains(
    paired: Mapping[str, PairedAucs], reference: str, comparator: str, min_cases: int
) -> tuple[list[SiteEstimate], dict[str, str]]:
    shown, withheld = [], {}
    for site in sorted(paired):
        try:
            shown.append(auc_difference(site, paired[site], reference, comparator, min_cases=min_cases))
        except Refused as refusal:
            withheld[site] = refusal.code
    return shown, withheld
