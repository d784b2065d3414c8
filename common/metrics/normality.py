"""normality: is a variable normal? Shapiro-Wilk where every value is known, D'Agostino's K2 from sums (R37).

Shapiro-Wilk needs every order statistic, which is the raw column; only for whole numbers (age in years) does a
histogram hold the same, see `value_histogram`.  D'Agostino and Pearson's K2 (1973; D'Agostino et al. 1990,
doi 10.1080/00031305.1990.10475751) needs four central moments, which are sums.

Law: `k_squared` equals scipy's `normaltest` of the pooled values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from common.errors import Refused

__all__ = ["KSquared", "k_squared", "normality_p"]

SHAPIRO_LIMIT = 5000
"""Above this many cases the P value of Shapiro and Wilk is not valid (Royston 1995); K2 takes over."""


@dataclass(frozen=True)
class KSquared:
    """statistic: sum of squared z of skewness and kurtosis; p: chi-square with two degrees of freedom."""

    statistic: float
    p: float


def normality_p(values: np.ndarray[Any, Any]) -> float:
    """P of Shapiro-Wilk, of K2 above 5,000 cases; 0 for a constant and below three cases: nothing says normal."""
    if len(values) < 3 or np.ptp(values) == 0:
        return 0.0
    if len(values) <= SHAPIRO_LIMIT:
        return float(stats.shapiro(values).pvalue)
    deviation = values - values.mean()
    return k_squared(len(values), *(float((deviation**k).sum()) for k in (2, 3, 4))).p


def k_squared(cases: int, squares: float, cubes: float, fourths: float) -> KSquared:
    """From sums of powers of the deviation from the mean.

    A constant gives P 0.  Refused `too-few-for-normality` below eight cases; below twenty it is approximate.
    """
    if cases < 8:
        raise Refused(
            "too-few-for-normality",
            field="cases",
            problem="Skewness and kurtosis of fewer than eight cases say nothing.",
            fix="Use the rank-sum test, which needs no normality.",
        )
    if squares <= 0:
        return KSquared(float("inf"), 0.0)
    variance = squares / cases
    skew = _z_of_skewness(cases, cubes / cases / variance**1.5)
    kurtosis = _z_of_kurtosis(cases, fourths / cases / variance**2)
    statistic = skew**2 + kurtosis**2
    return KSquared(statistic, float(stats.chi2.sf(statistic, 2)))


def _z_of_skewness(n: int, skewness: float) -> float:
    """D'Agostino 1970."""
    y = skewness * np.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta = 3 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    w2 = np.sqrt(2 * (beta - 1)) - 1
    return float(np.arcsinh(y / np.sqrt(2 / (w2 - 1))) / np.sqrt(np.log(w2) / 2))


def _z_of_kurtosis(n: int, kurtosis: float) -> float:
    """Anscombe and Glynn 1983."""
    expected = 3 * (n - 1) / (n + 1)
    spread = np.sqrt(24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5)))
    x = (kurtosis - expected) / spread
    third = 6 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9)) * np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / third * (2 / third + np.sqrt(1 + 4 / third**2))
    root = np.cbrt((1 - 2 / a) / (1 + x * np.sqrt(2 / (a - 4))))
    return float((1 - 2 / (9 * a) - root) / np.sqrt(2 / (9 * a)))
