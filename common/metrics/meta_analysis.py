"""meta_analysis: one answer from many sites, and how far the next site may lie from it (random effects).

    tau2        variance between sites: REML (default), or DerSimonian and Laird's moment estimator
    interval    Hartung and Knapp with t(k-1), their factor never below 1 (Roever et al. 2015)
    prediction  where the true value of a new site lies: t(k-2) sqrt(tau2 + SE^2) (Higgins et al. 2009)
    Q, I2       heterogeneity (Higgins and Thompson 2002)

k = 1: the site's own estimate with its normal interval, tau2 0, no prediction.
k = 2: t(1), so the interval is very wide, as it should be; no prediction (it would have no degree of freedom).
Below five sites tau2 itself is hardly known: report it as such.
Law: the order of sites does not matter.  Disclosure: needs each site's estimate in clear (`site_estimates`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from common.errors import InputError, Refused
from common.metrics.site_estimates import SiteEstimate

__all__ = ["MetaAnalysis", "leave_one_out", "random_effects"]

Floats = np.ndarray[Any, np.dtype[np.float64]]
Method = Literal["reml", "dl"]


@dataclass(frozen=True)
class MetaAnalysis:
    """All on the scale of the estimates; error: of the summary, before Hartung and Knapp's factor; p: that the
    summary is 0, by the same t as the interval; weights: share of each site, in the order of `sites`; prediction:
    None below three sites.
    """

    sites: tuple[str, ...]
    estimate: float
    error: float
    interval: tuple[float, float]
    p: float
    prediction: tuple[float, float] | None
    tau2: float
    q: float
    q_p: float
    i2: float
    weights: tuple[float, ...]


def random_effects(
    estimates: Sequence[SiteEstimate], *, method: Method = "reml", confidence: float = 0.95
) -> MetaAnalysis:
    """Pool sites.  Refused `no-site-to-pool`; InputError `error-not-positive` names the sites."""
    _require_sound(estimates)
    ordered = sorted(estimates, key=lambda e: e.site)
    values = np.array([e.value for e in ordered], np.float64)
    variances = np.array([e.error for e in ordered], np.float64) ** 2
    k = len(values)
    between = _between(values, variances, method) if k > 1 else 0.0
    weights = 1 / (variances + between)
    middle = float(weights @ values / weights.sum())
    error = float(1 / np.sqrt(weights.sum()))
    q = _q(values, variances)
    level = (1 + confidence) / 2
    # The normal is the t with infinite degrees of freedom, for the single site.
    degrees = k - 1 if k > 1 else np.inf
    inflated = error * np.sqrt(max(float(weights @ (values - middle) ** 2) / degrees, 1.0))
    reach = float(stats.t.ppf(level, degrees) * inflated)
    foresight = float(stats.t.ppf(level, k - 2) * np.sqrt(between + error**2)) if k > 2 else None
    return MetaAnalysis(
        sites=tuple(e.site for e in ordered),
        estimate=middle,
        error=error,
        interval=(middle - reach, middle + reach),
        p=float(2 * stats.t.sf(abs(middle) / inflated, degrees)),
        prediction=None if foresight is None else (middle - foresight, middle + foresight),
        tau2=between,
        q=q,
        q_p=float(stats.chi2.sf(q, k - 1)) if k > 1 else 1.0,
        i2=max(0.0, (q - (k - 1)) / q) if q > 0 else 0.0,
        weights=tuple(float(w) for w in weights / weights.sum()),
    )


def leave_one_out(estimates: Sequence[SiteEstimate], *, method: Method = "reml") -> dict[str, MetaAnalysis]:
    """The summary without each site in turn; needs two sites (Refused `no-site-to-pool`)."""
    return {
        left.site: random_effects([e for e in estimates if e.site != left.site], method=method) for left in estimates
    }


def _q(values: Floats, variances: Floats) -> float:
    weights = 1 / variances
    middle = weights @ values / weights.sum()
    return float(weights @ (values - middle) ** 2)


def _between(values: Floats, variances: Floats, method: Method) -> float:
    weights = 1 / variances
    scale = weights.sum() - (weights @ weights) / weights.sum()
    moment = max(0.0, (_q(values, variances) - (len(values) - 1)) / float(scale))
    return moment if method == "dl" else _reml(values, variances, moment)


def _reml(values: Floats, variances: Floats, moment: float) -> float:
    """The highest restricted likelihood; with few sites it may have two hills, so more than one is climbed."""
    starts = {0.0, moment, float(variances.mean()), float(values.var(ddof=1))}
    tops = [_climb(values, variances, start) for start in sorted(starts)]
    return max(tops, key=lambda tau2: _restricted_likelihood(tau2, values, variances))


def _climb(values: Floats, variances: Floats, start: float) -> float:
    """Fisher scoring (Viechtbauer 2005); every step raises the restricted likelihood, and none goes below 0."""
    tau2 = start
    best = _restricted_likelihood(tau2, values, variances)
    for _ in range(1000):
        weights = 1 / (variances + tau2)
        total, square, cube = (float((weights**p).sum()) for p in (1, 2, 3))
        residual = values - weights @ values / total
        trace = square - 2 * cube / total + (square / total) ** 2
        step = (float(weights**2 @ residual**2) - (total - square / total)) / trace
        while (now := _restricted_likelihood(max(0.0, tau2 + step), values, variances)) < best:
            step /= 2
            if abs(step) <= 1e-12 * (tau2 + variances.min()):
                return tau2
        moved = abs(max(0.0, tau2 + step) - tau2)
        tau2, best = max(0.0, tau2 + step), now
        if moved <= 1e-12 * (tau2 + variances.min()):
            break
    return tau2


def _restricted_likelihood(tau2: float, values: Floats, variances: Floats) -> float:
    weights = 1 / (variances + tau2)
    residual = values - weights @ values / weights.sum()
    return float(np.log(weights).sum() - np.log(weights.sum()) - weights @ residual**2) / 2


def _require_sound(estimates: Sequence[SiteEstimate]) -> None:
    if not estimates:
        raise Refused(
            "no-site-to-pool",
            field="sites",
            problem="No site has an estimate that may be shown.",
            fix="Collect more cases per class at the sites.",
        )
    broken = [e.site for e in estimates if not (np.isfinite(e.value) and np.isfinite(e.error) and e.error > 0)]
    if broken:
        raise InputError(
            "error-not-positive",
            field=", ".join(broken),
            problem="An estimate is not finite, or its standard error is not above 0.",
            fix="Leave the site out and say so; an error of 0 would weigh without limit.",
        )
