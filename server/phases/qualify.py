"""qualify: who is there, on this protocol, with enough cases of both classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Reply
from common.messages.qualify import QualifyReply, QualifyRequest
from server.phases.base import Phase
from server.state import StudyState

__all__ = ["Qualify"]


class Qualify(Phase):
    """One exchange.  A site that refuses, stays away or has too few cases is excluded by name."""

    name: ClassVar[str] = "qualify"
    fixed_roster: ClassVar[bool] = False

    def request(self, state: StudyState) -> QualifyRequest | None:
        """Ask once."""
        return None if state.qualified else self.question(state)

    def question(self, state: StudyState) -> QualifyRequest:
        """The question, for any node at any time."""
        return QualifyRequest(
            fingerprint=state.protocol.fingerprint(),
            protocol=state.protocol.model_dump(mode="json"),
        )

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Keep the sites that may take part."""
        qualified = {site: reply for site, reply in replies.items() if isinstance(reply, QualifyReply)}
        codes = state.exchanges[-1].codes if state.exchanges else {}
        excluded = {site: codes.get(site, "did-not-qualify") for site in state.sites if site not in qualified}
        return state.evolve(qualified=qualified, excluded=excluded)
