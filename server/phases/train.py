"""train: rounds of local training, merged by the protocol's strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from common.messages.base import Reply
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.networks.fused_head import initial_weights
from server.state import StudyState
from server.strategy.weighted_average import weighted_average

__all__ = ["Train"]


class Train:
    """One exchange per round; a site lost in one round is asked again in the next."""

    name: ClassVar[str] = "train"
    fixed_roster: ClassVar[bool] = False

    def request(self, state: StudyState) -> TrainRoundRequest | None:
        """The next round with the present model, until all are done."""
        if state.rounds_done >= state.protocol.training.rounds:
            return None
        if not state.weights:
            state = state.evolve(weights=_first_weights(state))
        return TrainRoundRequest(
            fingerprint=state.protocol.fingerprint(), round=state.rounds_done + 1, model=state.model()
        )

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Add the sites' average change to the weights."""
        before = state.weights or _first_weights(state)
        updates = [reply for reply in replies.values() if isinstance(reply, TrainRoundReply)]
        weights = weighted_average(before, [u.deltas for u in updates], [u.cases for u in updates])
        return state.evolve(weights=weights, rounds_done=state.rounds_done + 1)


def _first_weights(state: StudyState) -> dict[str, np.ndarray[Any, Any]]:
    protocol, selection = state.protocol, state.selection
    if selection is None:
        raise ValueError("training begins after selection")
    return dict(initial_weights(protocol.visual.length, len(selection.signature), protocol.head, seed=protocol.seed))
