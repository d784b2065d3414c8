"""site_level: differential privacy for whole sites: clipped updates, noise on their sum (McMahan et al. 2018, arXiv
1710.06963).

    d_k <- d_k * min(1, C / |d_k|)            C: largest_update, over all weights together
    mean <- (sum_k d_k + Gaussian noise of deviation z C) / K

Guarantee: what is merged, and so every later model, is one Gaussian mechanism of noise multiplier z per round
(common/privacy/accounting.py); neighbours are two studies of which in one a site sent nothing but zeros.  Who took part
is told, and no sampling of sites is counted on.  The server sees the updates as they are: it is trusted here.

With few sites the promise costs more than it gives: the noise in the mean is z C / K.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.config.privacy import SiteLevelSettings
from common.privacy.accounting import GaussianEvent
from common.privacy.noise import NoiseStream
from common.stats.weight_norm import weight_norm
from server.strategy.fedavg import mean_change
from server.strategy.update import SiteUpdate

__all__ = ["private_mean", "site_level_event"]

EVERYONE = "all sites"


def private_mean(updates: Sequence[SiteUpdate], settings: SiteLevelSettings, noise: NoiseStream) -> SiteUpdate:
    """The sites' noisy mean as if one site had sent it, for any strategy that looks at the mean only."""
    norms = [weight_norm(update.changes) for update in updates]
    factors = [min(1.0, settings.largest_update / norm) / len(updates) if norm else 0.0 for norm in norms]
    mean = mean_change(updates, factors)
    deviation = settings.noise_multiplier * settings.largest_update / len(updates)
    noisy = {
        name: (change + noise.gaussian(change.size, deviation).reshape(change.shape)).astype(change.dtype)
        for name, change in sorted(mean.items())
    }
    cases = sum(update.cases for update in updates)
    return SiteUpdate(EVERYONE, cases, {name: noisy[name] for name in mean}, weight=1.0, share=1.0)


def site_level_event(settings: SiteLevelSettings, rounds: int) -> GaussianEvent:
    """What so many rounds tell of a site."""
    return GaussianEvent(settings.noise_multiplier, steps=rounds)
