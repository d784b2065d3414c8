"""van_elteren: the rank-sum test within sites (van Elteren 1960): no site's scanner can make the difference.

Every site ranks its own cases; deviations are weighted by 1 / (n + 1), which is most powerful when the effect is
the same everywhere, and two sums over sites give z.

Law: with one site it is `rank_sum`; any order of sites gives the same.  The sites are the strata: a site split
in two is another test.  A site of one class or one case adds nothing.  Needs sums only.
Disclosure: a site's pair of numbers is its own test; open the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from common.errors import Refused
from common.metrics.rank_sum import u_and_variance
from common.metrics.score_cells import ScoreCells

__all__ = ["StratumSums", "VanElteren", "combine", "finish", "summarise"]


@dataclass(frozen=True)
class StratumSums:
    """deviation: weighted (U - expected); variance: of it under no difference; sites: that have both classes."""

    deviation: float
    variance: float
    sites: int


@dataclass(frozen=True)
class VanElteren:
    """z is negative where altered cases score lower; p two-sided; sites: strata that took part."""

    z: float
    p: float
    sites: int


def summarise(cells: ScoreCells) -> StratumSums:
    """Runs in the hospital, on the exact cells of its own cases."""
    altered, others = cells.cases
    if min(altered, others) == 0:
        return StratumSums(0.0, 0.0, 0)
    u, variance = u_and_variance(cells.altered, cells.not_altered)
    weight = 1 / (altered + others + 1)
    return StratumSums(weight * (u - altered * others / 2), weight**2 * variance, 1)


def combine(parts: Sequence[StratumSums]) -> StratumSums:
    """Runs on the server; adds in the order given."""
    return StratumSums(
        float(np.sum([part.deviation for part in parts])),
        float(np.sum([part.variance for part in parts])),
        sum(part.sites for part in parts),
    )


def finish(total: StratumSums) -> VanElteren:
    """Refused `no-site-with-both-classes`; z 0 where all scores of every site are equal."""
    if total.sites == 0:
        raise Refused(
            "no-site-with-both-classes",
            field="label",
            problem="No site has cases of both classes, so nothing can be compared within a site.",
            fix="Compare across sites (rank_sum), knowing that scanners may make the difference.",
        )
    z = total.deviation / np.sqrt(total.variance) if total.variance > 0 else 0.0
    return VanElteren(float(z), float(2 * stats.norm.sf(abs(z))), total.sites)
