"""anova: sums by class about the pooled mean, for the F statistic of every feature.

Leaves the site: training cases of each class, a sum per feature and class, a sum of squares per feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request
from common.messages.harmoniser import Harmoniser
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, WIDE, FixedPoint

__all__ = ["AnovaReply", "AnovaRequest"]


class AnovaRequest(Request):
    """mean: pooled, of every feature."""

    action: ClassVar[str] = "anova"
    harmoniser: Harmoniser
    mean: Array


class AnovaReply(Reply):
    """cases: (2,); total: (2, features); squares: (features)."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"cases": COUNTS, "total": WIDE, "squares": WIDE}
    cases: Array
    total: Array
    squares: Array

    def discloses(self) -> Disclosure:
        """Sums over the cases of each class."""
        return Disclosure(cases={"cases": self.cases}, by_label=True)
