"""within_site_auc: AUC over pairs of cases of the same site: what is left when scanners cannot help.

Every site counts its own pairs; two sums give the figure, so that secure aggregation can carry it.  With
exact cells at each site nothing is lost.

Law: equal to `roc.within_site_auc`, in any order of sites.  A site split in two loses the pairs between its
halves: the sites are the strata, not a way to hold the cases.  Needs sums only.
Disclosure: pairs won and pairs of a site give its AUC: open the sum, or sites with `min_cases` per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.metrics.score_cells import ScoreCells

__all__ = ["PairsWon", "combine", "finish", "summarise"]


@dataclass(frozen=True)
class PairsWon:
    """won: pairs in which the altered case scores lower, ties one half; pairs: all of them."""

    won: float
    pairs: int


def summarise(cells: ScoreCells) -> PairsWon:
    """Runs in the hospital, on its own cells; a site of one class has no pair."""
    altered, others = cells.cases
    above = others - cells.not_altered.cumsum() + cells.not_altered / 2
    return PairsWon(float(cells.altered @ above), altered * others)


def combine(parts: Sequence[PairsWon]) -> PairsWon:
    """Runs on the server; halves add exactly, so the order does not matter."""
    return PairsWon(sum(part.won for part in parts), sum(part.pairs for part in parts))


def finish(total: PairsWon) -> float | None:
    """None where no site has both classes."""
    return total.won / total.pairs if total.pairs else None
