"""moments: sums, or squares about the pooled mean, of this site's training cases."""

from __future__ import annotations

from client.site import Site
from client.tasks.load_cohort import load_cohort
from common.messages.moments import MomentsReply, MomentsRequest
from common.stats import moments

__all__ = ["answer"]


def answer(request: MomentsRequest, site: Site) -> MomentsReply:
    """Radiomics and visual features alike; only training cases count."""
    training = load_cohort(site, request.harmoniser).training
    if request.radiomics_mean is None or request.visual_mean is None:
        sums = moments.summarise_sums(training.table)
        visual = moments.summarise_sums_array(training.visual)
        return MomentsReply(site=site.settings.name, count=sums.count, radiomics=sums.total, visual=visual.total)
    squares = moments.summarise_squares(training.table, request.radiomics_mean)
    visual_squares = moments.summarise_squares_array(training.visual, request.visual_mean)
    return MomentsReply(
        site=site.settings.name,
        count=squares.count,
        radiomics=squares.total,
        visual=visual_squares.total,
    )
