"""empirical_bayes: a batch's shift and scale, shrunk towards what its features have in common.

Everything is arithmetic on the batch's size, mean and variance per feature (in residual units), because
sum (s - g)^2 = (n - 1) variance + n (mean - g)^2: no pass over cases, so a hospital or the server can do it.
Priors and the stopping rule are neuroCombat's: gamma normal, delta inverse gamma, by moments over all features
that vary; iterate until every feature's change is below 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.config.harmonisation import HarmonisationSettings

__all__ = ["FEWEST_FOR_SCALE", "Shift", "fit_shift"]

FEWEST_FOR_SCALE = 5
"""Below this a batch's own scale says more about chance than about the scanner."""
CONVERGED = 1e-4
MOST_ITERATIONS = 10_000

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Shift:
    """gamma: location, delta: variance of a batch, per feature, in residual units; cases: it was fitted on."""

    gamma: Array
    delta: Array
    cases: int


def fit_shift(
    cases: int,
    mean: Array,
    variance: Array,
    varies: np.ndarray[Any, np.dtype[np.bool_]],
    settings: HarmonisationSettings,
) -> Shift:
    """Shift of one batch of `cases` with `mean` and `variance` (ddof 1) of its residuals per feature.

    varies: features that count for the priors.  With one case there is no variance: its scale stays.
    """
    small = cases < FEWEST_FOR_SCALE and settings.small_batches == "shrunk_mean"
    ones = np.ones_like(mean)
    if small:
        return Shift(_shrunk_mean(cases, mean, varies), ones, cases)
    mean_only = settings.mean_only or cases < 2
    delta = ones if mean_only else np.where(variance == 0, 1.0, variance)
    if not settings.empirical_bayes or varies.sum() < 2:
        return Shift(mean.copy(), delta, cases)
    prior_mean, prior_variance = mean[varies].mean(), mean[varies].var(ddof=1)
    if mean_only:
        # neuroCombat's posterior for mean-only takes n = 1 and delta = 1.
        return Shift((prior_variance * mean + prior_mean) / (prior_variance + 1), delta, cases)
    return Shift(*_iterate(cases, mean, delta, varies, float(prior_mean), float(prior_variance)), cases)


def _shrunk_mean(cases: int, mean: Array, varies: np.ndarray[Any, np.dtype[np.bool_]]) -> Array:
    """The mean times n t / (n t + 1), t: how much batch means vary over features beyond the 1/n that chance gives.

    Uses this batch alone, so nothing more leaves the site.
    """
    if not varies.any():
        return np.zeros_like(mean)
    spread = max(0.0, float((mean[varies] ** 2).mean()) - 1 / cases)
    return np.asarray(mean * (cases * spread / (cases * spread + 1)))


def _iterate(
    n: int,
    mean: Array,
    variance: Array,
    varies: np.ndarray[Any, np.dtype[np.bool_]],
    prior_mean: float,
    prior_variance: float,
) -> tuple[Array, Array]:
    """Posterior means of gamma and delta by turns (Johnson et al. 2007, appendix)."""
    middle, spread = variance[varies].mean(), variance[varies].var(ddof=1)
    if spread == 0 or prior_variance == 0:
        return mean.copy(), variance.copy()
    shape = (2 * spread + middle**2) / spread
    scale = (middle * spread + middle**3) / spread
    gamma, delta = mean.copy(), variance.copy()
    for _ in range(MOST_ITERATIONS):
        new_gamma = (prior_variance * n * mean + delta * prior_mean) / (prior_variance * n + delta)
        squares = (n - 1) * variance + n * (mean - new_gamma) ** 2
        new_delta = (0.5 * squares + scale) / (n / 2 + shape - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Signed denominators, as neuroCombat has them: another rule would stop at another place.
            change = max(
                np.max((np.abs(new_gamma - gamma) / gamma)[varies]), np.max((np.abs(new_delta - delta) / delta)[varies])
            )
        gamma, delta = new_gamma, new_delta
        if not change > CONVERGED:
            break
    return gamma, delta
