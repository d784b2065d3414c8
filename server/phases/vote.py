"""vote: the signature under differential privacy: every site names a few features under noise, the k named most are taken.

Only where the protocol says `selection.method: votes`; before the scale, so that noise is spent on the signature's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from common.config.privacy import StatisticsSettings
from common.messages.base import Reply, Request
from common.messages.harmoniser import Harmoniser
from common.messages.votes import VotesReply, VotesRequest
from common.stats import votes
from server.phases.base import Phase
from server.phases.form import Form, counts, refused, require_all_cases
from server.state import ALL_SITES, Selection, StudyState

__all__ = ["Vote"]


class Vote(Phase):
    """One exchange; the votes of a site that is lost later still count, as what it has spent on them does."""

    name: ClassVar[str] = "vote"
    fixed_roster: ClassVar[bool] = False

    def request(self, state: StudyState) -> VotesRequest | None:
        """Ask once."""
        if state.protocol.selection.method != "votes" or state.selection is not None:
            return None
        # A study that clips single cases has no harmonisation.
        return VotesRequest(
            fingerprint=state.protocol.fingerprint(), study=state.study, harmoniser=Harmoniser(method="none")
        )

    def forms(self, state: StudyState, request: Request) -> Mapping[str, Form]:
        """A whole number for each feature."""
        del request
        return {"points": counts(len(state.protocol.radiomics.names()))}

    def admit(self, state: StudyState, request: Request, reply: Reply) -> Reply:
        """Of the training cases that qualified; nobody has more votes than the others, and none goes elsewhere."""
        super().admit(state, request, reply)
        if isinstance(reply, VotesReply):
            require_all_cases(state, reply.site, reply.count, "count")
            _require_picks(state, reply)
        return reply

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Add the points and choose."""
        points = votes.combine([reply.points for reply in replies.values() if isinstance(reply, VotesReply)])
        names = state.protocol.radiomics.names()
        found = votes.choose(names, points, state.protocol.selection.k)
        return state.evolve(
            selection=Selection(
                signature=found.names,
                scores=points.astype(np.float64),
                edges=np.zeros((len(names), 0)),
                ties=found.ties,
            )
        )


def _require_picks(state: StudyState, reply: VotesReply) -> None:
    """WireError `votes-miscounted`; of a sum, whose sites are counted together, what all may have given."""
    settings = _statistics(state)
    picks = 0 if settings.votes is None else settings.votes.picks
    others = [name not in settings.radiomics for name in state.protocol.radiomics.names()]
    sites = len(state.taking_part) if reply.site == ALL_SITES else 1
    given = np.sort(reply.points[reply.points > 0])
    if sites == 1:
        honest = np.array_equal(given, np.arange(1, picks + 1))
    else:
        each = picks * (picks + 1) // 2
        # A site may have been lost on the way: whole ballots, of no more sites than take part.
        honest = given.sum() % each == 0 and given.sum() <= sites * each and given.max(initial=0) <= sites * picks
    if not honest or reply.points[others].any():
        raise refused("votes-miscounted", "points", "Other points were given than the protocol lets a site give.")


def _statistics(state: StudyState) -> StatisticsSettings:
    statistics = state.protocol.privacy.statistics
    if statistics is None:
        raise ValueError("a protocol with votes has private statistics")
    return statistics
