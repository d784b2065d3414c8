"""moments: sums for mean and standard deviation of the training cases, in two exchanges.

First `sums` (mean is None), then `squares` about the pooled mean.  Leaves the site: the number of
training cases and one sum per feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request, StudyName
from common.messages.harmoniser import Harmoniser
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, NARROW, WIDE, FixedPoint

__all__ = ["MomentsReply", "MomentsRequest"]


class MomentsRequest(Request):
    """Without means: sums are wanted; with them: squares about them.  study: whose privacy budget it is booked under.

    signature: the features that sums with noise are wanted of; the paper's where it is empty; without noise not read.
    """

    action: ClassVar[str] = "moments"
    study: StudyName | None = None
    harmoniser: Harmoniser
    signature: tuple[str, ...] = ()
    radiomics_mean: Array | None = None
    visual_mean: Array | None = None


class MomentsReply(Reply):
    """One sum per radiomics feature and per visual feature, float64."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"count": COUNTS, "radiomics": WIDE, "visual": NARROW}
    count: int
    radiomics: Array
    visual: Array

    def discloses(self) -> Disclosure:
        """Sums over the training cases."""
        return Disclosure(cases={"count": self.count})
