"""weighting: how much a site counts in the merged change.

    cases              the mean over cases; the only one that equals pooled training
    equal              the mean over sites
    inverse_variance   cases / variance of one case's gradient: the mean with the smallest variance when sites differ
                       in noise but not in aim (Cochran 1937, J R Stat Soc Suppl 4:102; a site's mean of n gradients
                       has variance / n)

A site with hardly any variance would count alone, and a site may be wrong about its own: variances are taken between
a quarter and four times the median of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from common.config.training import TrainingSettings

__all__ = ["site_weights"]

BOUND = 4.0


def site_weights(
    cases: Mapping[str, int], variances: Mapping[str, float], training: TrainingSettings
) -> dict[str, float]:
    """Weight of every site; variances: of one case's gradient, read for inverse_variance only."""
    if training.weighting == "equal":
        return dict.fromkeys(cases, 1.0)
    if training.weighting == "cases":
        return {site: float(n) for site, n in cases.items()}
    middle = median(variances[site] for site in cases)
    return {site: n / min(max(variances[site], middle / BOUND), middle * BOUND) for site, n in cases.items()}
