"""votes: which features a site would choose, under noise (common/stats/votes.py).

Leaves the site: the number of training cases, and the order of a few features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request, StudyName
from common.messages.harmoniser import Harmoniser
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, FixedPoint

__all__ = ["VotesReply", "VotesRequest"]


class VotesRequest(Request):
    """How many picks and at what epsilon is the protocol's.  study: whose privacy budget it is booked under."""

    action: ClassVar[str] = "votes"
    study: StudyName | None = None
    harmoniser: Harmoniser


class VotesReply(Reply):
    """points: (features), the protocol's number of picks downwards to 1, and 0 for what was not picked."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"count": COUNTS, "points": COUNTS}
    count: int
    points: Array

    def discloses(self) -> Disclosure:
        """A choice by all training cases."""
        return Disclosure(cases={"count": self.count})
