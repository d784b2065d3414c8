"""bounded_moments: mean and deviation of the training cases from sums in which no case counts for more than a bound, so
that noise can hide it (differential privacy of the statistics).

    exchange 1   z = (x - m0) / s0           cut to the length L sqrt(d)       sum + noise  -> mean
    exchange 2   y = ((x - mean) / s0)^2     cut to the length L sqrt(3 d)     sum + noise  -> deviation

m0, s0: the reference, of a cohort that anybody may know; d: number of features of a group; sqrt(d) and sqrt(3 d) are the
usual lengths where the reference fits and features are normal; L: how much longer a case may be.  Radiomics and visual
features are two groups that share the noise's budget, so that hundreds of channels do not drown nineteen features.

Guarantee: each exchange is one Gaussian mechanism of the stated noise multiplier; neighbours differ in one case, the number
of cases is taken as public.
How far from pooled: with noise multiplier z, S sites and n cases the mean is off by about
z L sqrt(2 d S) / n reference deviations (d = 19, z = 4, L = 1.5, three sites, 204 cases: 0.3), the variance by sqrt(3)
times that; cases that were cut draw the mean towards the reference
and make the deviation smaller.  A tiny noise and a large L give the exact moments
(tests/laws/test_bounded_moments.py).
Source: the clipped sums of DP-SGD (Abadi et al. 2016), here of features instead of gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.arrays import FeatureVector
from common.config.privacy import StatisticsSettings
from common.stats.moments import Moments, Rows, Squares, Sums, require_finite

__all__ = ["Noise", "Reference", "bounded_squares", "bounded_sums", "finish_bounded", "references"]

SMALLEST = 1 / 3
"""Of the reference's deviation: noise can make a sum of squares too small, and even negative."""

Noise = Callable[[int, float], FeatureVector]
"""So many numbers of this deviation (common/privacy/noise.py)."""


@dataclass(frozen=True)
class Reference:
    """Of one group: mean and deviation of each feature; largest: L; multiplier: of this group's noise."""

    mean: FeatureVector
    deviation: FeatureVector
    largest: float
    multiplier: float


def references(settings: StatisticsSettings, signature: Sequence[str]) -> tuple[Reference, Reference | None]:
    """Of the signature in its order, and of the visual features, None where there are none."""
    scales = [np.array([settings.radiomics[name] for name in signature]), np.array(settings.visual)]
    groups = [scale for scale in scales if len(scale)]
    multiplier = settings.noise_multiplier * math.sqrt(len(groups))
    found = [Reference(scale[:, 0], scale[:, 1], settings.largest, multiplier) for scale in groups]
    return found[0], found[1] if len(found) > 1 else None


def bounded_sums(rows: Rows, reference: Reference, noise: Noise) -> Sums:
    """Runs in the hospital: exchange 1; in the features' own units."""

    def centred(row: FeatureVector) -> FeatureVector:
        found: FeatureVector = (row - reference.mean) / reference.deviation
        return found

    total = _bounded(rows, centred, reference, noise, usual=1)
    cases = rows.shape[0]
    return Sums(cases, cases * reference.mean + total * reference.deviation)


def bounded_squares(rows: Rows, mean: FeatureVector, reference: Reference, noise: Noise) -> Squares:
    """Runs in the hospital: exchange 2, about the pooled mean of exchange 1; noise can make them negative."""

    def squared(row: FeatureVector) -> FeatureVector:
        found: FeatureVector = ((row - mean) / reference.deviation) ** 2
        return found

    total = _bounded(rows, squared, reference, noise, usual=3)
    return Squares(rows.shape[0], total * reference.deviation**2)


def finish_bounded(sums: Sums, squares: Squares, reference: Reference) -> Moments:
    """Runs on the server; a deviation is at least a third of the reference's."""
    smallest = SMALLEST * reference.deviation
    deviation = np.sqrt(np.maximum(squares.total / squares.count, smallest**2))
    return Moments(sums.count, sums.total / sums.count, deviation)


def _bounded(
    rows: Rows,
    standardise: Callable[[FeatureVector], FeatureVector],
    reference: Reference,
    noise: Noise,
    *,
    usual: float,
) -> FeatureVector:
    """The sum of the rows, none longer than the bound, with noise of the multiplier times that."""
    longest = reference.largest * math.sqrt(usual * len(reference.mean))
    total = np.zeros(rows.shape[1])
    for row in rows:
        found = standardise(row.astype(np.float64))
        length = float(np.linalg.norm(found))
        total += found if length <= longest else found * (longest / length)
    return require_finite(total) + noise(len(total), reference.multiplier * longest)
