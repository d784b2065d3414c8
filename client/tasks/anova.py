"""anova: this site's sums by class about the pooled mean; training cases only."""

from __future__ import annotations

from client.site import Site
from client.tasks.load_cohort import load_cohort
from common.messages.anova import AnovaReply, AnovaRequest
from common.stats import anova

__all__ = ["answer"]


def answer(request: AnovaRequest, site: Site) -> AnovaReply:
    """Sums only; the values stay."""
    table = load_cohort(site, request.harmoniser, visual=False).training.table
    sums = anova.summarise(table, request.mean)
    return AnovaReply(site=site.settings.name, cases=sums.cases, total=sums.total, squares=sums.squares)
