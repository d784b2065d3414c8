"""combat: sums for a federated ComBat fit (common/stats/combat.py), in one exchange, or two where sites share a
scanner.

Leaves the site: `shared`: cases, sums of features and covariates of each shared scanner.  `products`: the same
and centred cross-products, of all its scanners together; of shared scanners and of the reference batch also
apart.  No mean of a scanner that the site alone uses.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from common.messages.base import Array, Reply, Request
from common.privacy.disclosure import Disclosure

__all__ = ["CombatReply", "CombatRequest"]


class CombatRequest(Request):
    """shared: batches that several sites use; with `products` also their pooled means: features (batches, p) and
    covariates (batches, q).
    """

    action: ClassVar[str] = "combat"
    ask: Literal["shared", "products"]
    shared: tuple[str, ...]
    features: Array
    covariates: Array


class CombatReply(Reply):
    """One row per shared batch; with `products` the site's total comes first and the batches told apart follow, by
    name in `apart`.  cc, cy, yy are empty for `shared`.
    """

    apart: tuple[str, ...]
    cases: Array
    features: Array
    covariates: Array
    cc: Array
    cy: Array
    yy: Array

    def discloses(self) -> Disclosure:
        """Sums over the cases of each scanner told apart, and over the rest, which the total gives away."""
        apart = len(self.apart)
        total, told = self.cases[: len(self.cases) - apart], self.cases[len(self.cases) - apart :]
        return Disclosure(cases={"cases": self.cases, "cases of all other scanners": total - told.sum()})
