"""covariance: products of this site's candidates for the signature; training cases only."""

from __future__ import annotations

import numpy as np

from client.site import Site
from client.tasks.load_cohort import load_cohort
from common.messages.covariance import CovarianceReply, CovarianceRequest
from common.stats import covariance
from common.stats.standardiser import Standardiser

__all__ = ["answer"]


def answer(request: CovarianceRequest, site: Site) -> CovarianceReply:
    """Products of z-scores: features of wild scales would lose digits in one sum."""
    table = load_cohort(site, request.harmoniser, visual=False).training.table.columns(request.names)
    scored = table.with_values(Standardiser(request.mean, request.deviation).apply(table.values))
    products = covariance.summarise(scored, np.zeros(len(request.names)))
    return CovarianceReply(site=site.settings.name, count=products.count, total=products.total)
