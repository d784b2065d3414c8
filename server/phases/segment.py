"""segment: rounds of training the segmentation network, merged by the protocol's strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Reply, Request
from common.messages.segment_round import SegmentRoundReply, SegmentRoundRequest
from common.messages.update_gate import check_cases, check_changes, check_losses, check_round
from common.messages.weight_update import open_update
from common.networks.segmentation_network import first_weights
from server.phases.base import Phase
from server.state import StudyState
from server.strategy.strategies import STRATEGIES
from server.strategy.update import PackedChanges, SiteUpdate, Weights

__all__ = ["Segment"]


class Segment(Phase):
    """One exchange per round; a site lost in one round is asked again in the next."""

    name: ClassVar[str] = "segment"
    fixed_roster: ClassVar[bool] = False

    def request(self, state: StudyState) -> SegmentRoundRequest | None:
        """The next round with the present weights, until all are done."""
        if state.rounds_done >= state.rounds:
            return None
        return SegmentRoundRequest(
            fingerprint=state.protocol.fingerprint(), round=state.rounds_done + 1, weights=dict(_weights(state))
        )

    def admit(self, state: StudyState, request: Request, reply: Reply) -> Reply:
        """Check an update; WireError with the codes of common/messages/update_gate.py."""
        if not isinstance(reply, SegmentRoundReply) or not isinstance(request, SegmentRoundRequest):
            return reply
        check_round(reply.round, request.round)
        check_cases(reply.cases, sum(state.qualified[reply.site].training_cases))
        check_losses(reply, reply.cases)
        check_changes(open_update(reply.update, request.weights), state.protocol.segmentation.training.merging)
        return reply

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Merge the changes, each weighted by its site's cases."""
        before, settings = _weights(state), state.protocol.segmentation.training.merging
        total = sum(sum(state.qualified[site].training_cases) for site in state.active)
        updates = [
            SiteUpdate(
                site=reply.site,
                cases=reply.cases,
                changes=PackedChanges(reply.update, before),
                weight=float(reply.cases),
                share=sum(state.qualified[reply.site].training_cases) / total,
            )
            for reply in replies.values()
            if isinstance(reply, SegmentRoundReply)
        ]
        merge, round_number = STRATEGIES[settings.strategy], state.rounds_done + 1
        after, memory = merge(before, updates, state.strategy_memory, settings, round_number)
        return state.evolve(weights=dict(after), strategy_memory=dict(memory), rounds_done=round_number)


def _weights(state: StudyState) -> Weights:
    return state.weights or first_weights(state.protocol.segmentation.network, seed=state.protocol.seed)
