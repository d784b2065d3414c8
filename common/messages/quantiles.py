"""quantiles: how many training cases lie at or below each threshold.

One of several exchanges of an exact search for order statistics (common/stats/quantiles.py).  Leaves
the site: counts, features x targets x thresholds.
"""

from __future__ import annotations

from typing import ClassVar

from common.messages.base import Array, Reply, Request

__all__ = ["QuantilesReply", "QuantilesRequest"]


class QuantilesRequest(Request):
    """Thresholds in each feature's own unit."""

    action: ClassVar[str] = "quantiles"
    thresholds: Array


class QuantilesReply(Reply):
    """Counts of the same shape as the thresholds."""

    counts: Array
