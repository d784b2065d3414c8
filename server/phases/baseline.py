"""baseline: where a study goes on from a released model, that model on every site's test cases before it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Reply, Request
from common.messages.evaluate import EvaluateReply, EvaluateRequest
from server.phases.base import Phase
from server.phases.evaluate import score_histograms
from server.phases.form import Form
from server.state import StudyState

__all__ = ["Baseline"]


class Baseline(Phase):
    """One exchange; none where the study starts from the seed's first weights."""

    name: ClassVar[str] = "baseline"
    fixed_roster: ClassVar[bool] = True

    def request(self, state: StudyState) -> EvaluateRequest | None:
        """Score with the model as it was released; the sites keep these scores under a name of their own."""
        if state.origin is None or state.before:
            return None
        return EvaluateRequest(
            fingerprint=state.protocol.fingerprint(),
            study=state.study,
            model=state.model(),
            before=True,
            origin_study=state.origin.study,
        )

    def forms(self, state: StudyState, request: Request) -> Mapping[str, Form]:
        """As of `evaluate`."""
        del request
        return score_histograms(state)

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Keep each site's counts."""
        return state.evolve(
            before={site: reply.test for site, reply in replies.items() if isinstance(reply, EvaluateReply)}
        )
