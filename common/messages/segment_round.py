"""segment_round: train the segmentation network on the site's training cases and send the change.

Leaves the site: the change of each weight, the number of training cases, and the mean loss of the cubes trained on.
"""

from __future__ import annotations

from typing import ClassVar

from common.messages.base import Arrays, Reply, Request
from common.messages.weight_update import WeightUpdate
from common.privacy.disclosure import Disclosure

__all__ = ["SegmentRoundReply", "SegmentRoundRequest"]


class SegmentRoundRequest(Request):
    """`round` starts at 1; it names the random streams."""

    action: ClassVar[str] = "segment_round"
    round: int
    weights: Arrays


class SegmentRoundReply(Reply):
    """update: new weights minus incoming weights; cases: fitted."""

    round: int
    cases: int
    loss: float
    update: WeightUpdate

    def discloses(self) -> Disclosure:
        """An update and a mean loss."""
        return Disclosure(cases={"cases": self.cases})
