"""segment_evaluate: Dice and HD95 of the final network on every site's test cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Reply
from common.messages.segment_evaluate import SegmentEvaluateReply, SegmentEvaluateRequest
from server.phases.base import Phase
from server.state import StudyState

__all__ = ["SegmentEvaluate"]


class SegmentEvaluate(Phase):
    """One exchange."""

    name: ClassVar[str] = "segment_evaluate"
    fixed_roster: ClassVar[bool] = False

    def request(self, state: StudyState) -> SegmentEvaluateRequest | None:
        """Ask once."""
        if state.segmentation:
            return None
        return SegmentEvaluateRequest(
            fingerprint=state.protocol.fingerprint(), study=state.study, weights=state.weights
        )

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Keep every site's figures; `StudyState.mean_dice` is of them."""
        return state.evolve(
            segmentation={site: reply for site, reply in replies.items() if isinstance(reply, SegmentEvaluateReply)}
        )
