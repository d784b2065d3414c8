"""base: what a phase is: two pure functions, and the driver does all waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from common.messages.base import Reply, Request
from server.phases.form import Form, check_forms
from server.state import StudyState

__all__ = ["Phase"]


class Phase(Protocol):
    """A step of the study.

    category: Flower's message category.  reply: what a site answers.
    fixed_roster: whether all exchanges of the phase must come from the same sites; if one is lost in
        between, the driver restarts the phase with those that are left.
    """

    name: ClassVar[str]
    fixed_roster: ClassVar[bool]

    def request(self, state: StudyState) -> Request | None:
        """The next question, or None when the phase is done."""
        ...

    def asked(self, state: StudyState) -> tuple[str, ...]:
        """The sites that the next question goes to: all that take part, unless the phase samples."""
        return state.taking_part

    def forms(self, state: StudyState, request: Request) -> Mapping[str, Form]:
        """What each array of the reply to this request must look like, by the reply's field."""
        del state, request
        return {}

    def admit(self, state: StudyState, request: Request, reply: Reply) -> Reply:
        """The reply as the phase will use it; a StudyError refuses it, and its site is named with the code.

        Whatever passes here must not fail in `fold` or `conclude` for the sake of one site.
        """
        check_forms(reply, self.forms(state, request))
        return reply

    def fold(self, total: Reply, reply: Reply) -> Reply | None:
        """One reply for both, where the phase wants nothing but their sum; None where it needs each.

        The driver folds in the order of the sites' names, as they arrive, so that a server of a thousand sites holds
        few replies.  Only for a phase of a fixed roster: a sum cannot be taken apart again.
        """
        del total, reply
        return None

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """The next state; `replies` are in the fixed order of site names, folded ones under the first."""
        ...
