"""votes: the features that this site would choose, under noise; by its training cases only."""

from __future__ import annotations

import hashlib

from client.egress.budget import Spending
from client.site import Site
from client.tasks.load_cohort import load_cohort
from client.tasks.open_budget import answered_privately
from common.errors import Refused
from common.messages.votes import VotesReply, VotesRequest
from common.privacy.accounting import ChoiceEvent
from common.privacy.noise import NoiseStream
from common.stats.votes import vote

__all__ = ["answer"]


def answer(request: VotesRequest, site: Site) -> VotesReply:
    """Refused `votes-not-agreed` where the protocol has none; and as `answered_privately`."""
    asked, settings = site.protocol.privacy.record_level, site.protocol.privacy.statistics
    if asked is None or settings is None or settings.votes is None:
        raise Refused(
            "votes-not-agreed",
            site=site.settings.name,
            field="privacy.record_level.statistics.votes",
            problem="The server asks which features this site would choose, and the protocol does not say so.",
            fix="Agree on a protocol with selection.method votes.",
        )
    rules = settings.votes
    training = load_cohort(site, request.harmoniser, visual=False).training
    table = training.table

    def voted(noise: NoiseStream) -> VotesReply:
        points = vote(table, tuple(settings.radiomics), rules.picks, rules.epsilon, noise.gumbel)
        return VotesReply(site=site.settings.name, count=len(table), points=points)

    spending = Spending(
        request.action,
        request.study or "",
        request.fingerprint,
        1,
        hashlib.sha256("".join(f"{key}\n" for key in training.keys).encode()).hexdigest(),
        ChoiceEvent(rules.epsilon, rules.picks),
    )
    return answered_privately(site, spending, request.harmoniser, asked, voted, cases=len(table))
