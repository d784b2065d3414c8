"""repeats: this site's sums for the stability of features; training cases that were measured repeatedly."""

from __future__ import annotations

from client.site import Site
from client.tasks.load_cohort import load_repeats
from common.errors import Refused
from common.messages.repeats import RepeatsReply, RepeatsRequest
from common.stats import icc

__all__ = ["answer"]


def answer(request: RepeatsRequest, site: Site) -> RepeatsReply:
    """Sums only; Refused `too-few-cases` below the protocol's minimum."""
    values = load_repeats(site)
    if len(values) < site.protocol.federation.min_cases:
        raise Refused(
            "too-few-cases",
            field="radiomics.perturbations",
            site=site.settings.name,
            problem="Too few training cases were measured repeatedly.",
            fix="Prepare the cases with this protocol; a table cannot be measured again.",
        )
    sums = icc.summarise(values, request.centre)
    return RepeatsReply(
        site=site.settings.name, count=sums.count, columns=sums.columns, between=sums.between, within=sums.within
    )
