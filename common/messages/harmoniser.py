"""harmoniser: what turns a site's radiomics features into harmonised ones, as it travels in every message.

Each site fits its own scanners' shifts from its own training cases, so that no shift of a scanner that one site alone
uses is ever sent; what it makes of its features with them it keeps (client/store/harmonised_store.py).
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np

from common.messages.base import Array, Message
from common.stats.combat import Location
from common.stats.empirical_bayes import Shift

__all__ = ["Harmoniser"]

NOTHING: np.ndarray[Any, Any] = np.zeros(0)


class Harmoniser(Message):
    """method: the protocol's.  For ComBat: alpha (p), beta (q, p), variance (p), varies (p, 0 or 1); and of the
    scanners that several sites use: names, gamma and delta (scanners, p), cases.
    """

    method: Literal["none", "site_zscore", "combat"] = "none"
    alpha: Array = NOTHING
    beta: Array = NOTHING
    variance: Array = NOTHING
    varies: Array = NOTHING
    shared: tuple[str, ...] = ()
    gamma: Array = NOTHING
    delta: Array = NOTHING
    cases: tuple[int, ...] = ()

    @classmethod
    def combat(cls, location: Location, shifts: dict[str, Shift]) -> Self:
        """From what the server has fitted."""
        names = tuple(sorted(shifts))
        empty = np.zeros((0, len(location.alpha)))
        return cls(
            method="combat",
            alpha=location.alpha,
            beta=location.beta,
            variance=location.variance,
            varies=location.varies.astype(np.uint8),
            shared=names,
            gamma=np.array([shifts[n].gamma for n in names]) if names else empty,
            delta=np.array([shifts[n].delta for n in names]) if names else empty,
            cases=tuple(shifts[n].cases for n in names),
        )

    def location(self) -> Location:
        """As the statistics take it."""
        return Location(self.alpha, self.beta, self.variance, self.varies.astype(bool))

    def shifts(self) -> dict[str, Shift]:
        """Of shared scanners, by name."""
        rows = zip(self.shared, self.gamma, self.delta, self.cases, strict=True)
        return {name: Shift(gamma, delta, cases) for name, gamma, delta, cases in rows}
