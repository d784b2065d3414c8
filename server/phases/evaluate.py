"""evaluate: histograms of the safety score by class, from every site, for training and test cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from common.messages.base import Reply
from common.messages.evaluate import EvaluateReply, EvaluateRequest
from server.phases.base import Phase
from server.state import StudyState

__all__ = ["Evaluate"]


class Evaluate(Phase):
    """One exchange; counts are summed, scores stay where they are."""

    name: ClassVar[str] = "evaluate"
    fixed_roster: ClassVar[bool] = False

    def request(self, state: StudyState) -> EvaluateRequest | None:
        """Ask once, with the final model."""
        if state.histograms:
            return None
        return EvaluateRequest(fingerprint=state.protocol.fingerprint(), study=state.study, model=state.model())

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Sum the sites' counts."""
        parts = [reply for reply in replies.values() if isinstance(reply, EvaluateReply)]
        return state.evolve(
            histograms={
                "training": np.sum([part.training for part in parts], axis=0),
                "test": np.sum([part.test for part in parts], axis=0),
            }
        )
