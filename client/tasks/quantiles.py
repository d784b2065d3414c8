"""quantiles: how many of this site's training cases share the bits known of an order statistic, by the next."""

from __future__ import annotations

from client.site import Site
from client.tasks.load_cohort import load_cohort
from common.messages.quantiles import QuantilesReply, QuantilesRequest
from common.stats import quantiles

__all__ = ["answer"]


def answer(request: QuantilesRequest, site: Site) -> QuantilesReply:
    """Counts only; the values stay."""
    training = load_cohort(site, request.harmoniser, visual=False).training
    counts = quantiles.summarise(training.table, request.prefix, request.step)
    return QuantilesReply(site=site.settings.name, counts=counts)
