"""contingency: this site's training cases per feature, bin and class."""

from __future__ import annotations

from client.site import Site
from client.tasks.load_cohort import load_cohort
from common.messages.contingency import ContingencyReply, ContingencyRequest
from common.stats import contingency

__all__ = ["answer"]


def answer(request: ContingencyRequest, site: Site) -> ContingencyReply:
    """Counts over the edges that all sites share."""
    training = load_cohort(site, request.harmoniser, visual=False).training
    return ContingencyReply(site=site.settings.name, counts=contingency.summarise(training.table, request.edges))
