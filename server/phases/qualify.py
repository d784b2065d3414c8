"""qualify: who is there, on this protocol, with enough cases of both classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from common.messages.base import Reply, Request
from common.messages.qualify import QualifyReply, QualifyRequest
from common.stats.value_lock import compare_values
from server.phases.base import Phase
from server.phases.form import refused
from server.state import StudyState

__all__ = ["Qualify"]


MOST_CASES = 10_000_000


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
            trains=state.trains,
        )

    def admit(self, state: StudyState, request: Request, reply: Reply) -> Reply:
        """Cases that can be counted, and a phantom of numbers; whose values differ is told in `conclude`."""
        if isinstance(reply, QualifyReply):
            told = [*reply.training_cases, *(count for count in reply.test_cases if count is not None)]
            if min(told) < 0 or max(told) > MOST_CASES or sum(reply.training_cases) == 0:
                raise refused("reply-cases", "training_cases", "The reply is of no case, or of fewer than none.")
            if reply.phantom is not None and (reply.phantom.ndim != 1 or reply.phantom.dtype.kind != "f"):
                raise refused("reply-dtype", "phantom", "The phantom's features are not a row of real numbers.")
        return super().admit(state, request, reply)

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Keep the sites that may take part."""
        answered = {site: reply for site, reply in replies.items() if isinstance(reply, QualifyReply)}
        codes = {**(state.exchanges[-1].codes if state.exchanges else {}), **_outliers(state, answered)}
        qualified = {site: reply for site, reply in answered.items() if site not in codes}
        excluded = {site: codes.get(site, "did-not-qualify") for site in state.sites if site not in qualified}
        return state.evolve(qualified=qualified, excluded=excluded)


def _outliers(state: StudyState, replies: Mapping[str, QualifyReply]) -> dict[str, str]:
    """Sites whose phantom differs from the median of all.

    Each has compared itself with the values shipped; this also holds where none are shipped (another wavelet) and
    for a site whose code was changed.  Of two sites that differ, nobody can say which is right: both are out.
    """
    phantoms = {site: reply.phantom for site, reply in replies.items() if reply.phantom is not None}
    if len(phantoms) < 2:
        return {}
    names = state.protocol.radiomics.names()
    whole = {site: values for site, values in phantoms.items() if values.shape == (len(names),)}
    codes = {site: "features-differ: another number of features" for site in phantoms if site not in whole}
    median = dict(zip(names, np.median(list(whole.values()), axis=0), strict=True)) if whole else {}
    for site, values in whole.items():
        difference = compare_values(median, dict(zip(names, values, strict=True)))
        if difference is not None:
            codes[site] = f"features-differ: {difference}"
    return codes
