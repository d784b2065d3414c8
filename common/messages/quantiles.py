"""quantiles: how many training cases share the leading bits of an order statistic, by their next bits.

One of eleven exchanges of an exact search for order statistics (common/stats/quantiles.py).  Leaves the
site: counts, features x ranks x 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request
from common.messages.harmoniser import Harmoniser
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, FixedPoint

__all__ = ["QuantilesReply", "QuantilesRequest"]


class QuantilesRequest(Request):
    """prefix: features x ranks, uint64, the bits known after `step` exchanges."""

    action: ClassVar[str] = "quantiles"
    harmoniser: Harmoniser
    prefix: Array
    step: int


class QuantilesReply(Reply):
    """counts: features x ranks x 64, the smallest unsigned integers that hold them."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"counts": COUNTS}
    counts: Array

    def discloses(self) -> Disclosure:
        """An order statistic is one patient's value; a cell of one case tells its next bits."""
        return Disclosure(counts={"counts": self.counts})
