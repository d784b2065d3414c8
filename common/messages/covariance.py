"""covariance: products of the candidates for the signature, about their pooled means.

Leaves the site: training cases, and one number per pair of candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request
from common.messages.harmoniser import Harmoniser
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, WIDE, FixedPoint

__all__ = ["CovarianceReply", "CovarianceRequest"]


class CovarianceRequest(Request):
    """names: the candidates; mean, deviation: theirs, float64, so that products are of z-scores."""

    action: ClassVar[str] = "covariance"
    harmoniser: Harmoniser
    names: tuple[str, ...]
    mean: Array
    deviation: Array


class CovarianceReply(Reply):
    """total: candidates x candidates."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"count": COUNTS, "total": WIDE}
    count: int
    total: Array

    def discloses(self) -> Disclosure:
        """Products over the training cases."""
        return Disclosure(cases={"count": self.count})
