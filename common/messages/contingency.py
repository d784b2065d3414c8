"""contingency: cases per feature, bin and class, over edges common to all sites.

Leaves the site: counts, features x bins x 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request
from common.messages.harmoniser import Harmoniser
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, FixedPoint

__all__ = ["ContingencyReply", "ContingencyRequest"]


class ContingencyRequest(Request):
    """edges: features x (bins - 1), rising."""

    action: ClassVar[str] = "contingency"
    harmoniser: Harmoniser
    edges: Array


class ContingencyReply(Reply):
    """counts: features x bins x (not altered, altered)."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"counts": COUNTS}
    counts: Array

    def discloses(self) -> Disclosure:
        """Every bin and class is a cell."""
        return Disclosure(counts={"counts": self.counts}, by_label=True)
