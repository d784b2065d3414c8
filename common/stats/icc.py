"""icc: how far a feature tells patients apart when their scan or contour changes a little, from sums.

Each of n patients is measured k times (rotated, shifted, mask grown or shrunk, noise).  Shrout and Fleiss 1979:

    ICC(1,1) = (MSR - MSW) / (MSR + (k - 1) MSW)
    ICC(2,1) = (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)

MSR, MSC, MSE, MSW: mean squares between patients, between measurements, residual and within patients.  The
lower end of the 95 % interval is that of ICC(1,1) (McGraw and Wong 1996).

Law: equal to the analysis of variance of the pooled cases to 1e-9 absolute for any partition, because squares are
taken about a centre that all sites share (the pooled mean; any centre near it will do).  Needs sums only.
Disclosure: three sums and k per feature over at least `min_cases` cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import f as f_distribution

from common.arrays import FeatureVector
from common.errors import InputError

__all__ = ["Icc", "IccSums", "combine", "finish", "summarise"]

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class IccSums:
    """count: patients; columns: (measurements, features) sums about the centre; between: (features,) squares of the
    patients' means about the centre; within: (features,) squares about the patients' own means.
    """

    count: int
    columns: Array
    between: FeatureVector
    within: FeatureVector


@dataclass(frozen=True)
class Icc:
    """one_way: ICC(1,1) with its lower 95 % bound; two_way: ICC(2,1).  1 where a feature never changes within
    patients, NaN where it does not change at all.
    """

    one_way: FeatureVector
    one_way_low: FeatureVector
    two_way: FeatureVector
    cases: int
    measurements: int


def summarise(values: Array, centre: FeatureVector) -> IccSums:
    """Runs in the hospital; values: (patients, measurements, features), at least two measurements."""
    if values.ndim != 3 or values.shape[1] < 2:
        raise InputError(
            "too-few-measurements",
            field="perturbations",
            problem="Stability needs at least two measurements of each case.",
            fix="Ask for perturbations when preparing the cases.",
        )
    if not np.isfinite(values).all():
        raise InputError(
            "feature-not-finite",
            field="perturbations",
            problem="A repeated measurement is NaN or infinite.",
            fix="Prepare the case again, or leave it out.",
        )
    about = values - centre
    means = about.mean(axis=1)
    return IccSums(
        len(values), about.sum(axis=0), (means**2).sum(axis=0), ((about - means[:, None]) ** 2).sum(axis=(0, 1))
    )


def combine(parts: Sequence[IccSums]) -> IccSums:
    """Runs on the server; adds in the order given."""
    return IccSums(
        sum(part.count for part in parts),
        np.sum([part.columns for part in parts], axis=0),
        np.sum([part.between for part in parts], axis=0),
        np.sum([part.within for part in parts], axis=0),
    )


def finish(sums: IccSums) -> Icc:
    """Both coefficients of every feature; at least two patients."""
    n, k = sums.count, len(sums.columns)
    if n < 2:
        raise InputError(
            "too-few-cases", field="perturbations", problem="Stability needs two cases.", fix="Add prepared cases."
        )
    columns = sums.columns / n
    mean = columns.mean(axis=0)
    rows = k * np.maximum(sums.between - n * mean**2, 0)
    between_columns = n * ((columns - mean) ** 2).sum(axis=0)
    msr, msw = rows / (n - 1), sums.within / (n * (k - 1))
    msc = between_columns / (k - 1)
    mse = np.maximum(sums.within - between_columns, 0) / ((n - 1) * (k - 1))
    ratio = np.divide(msr, msw, out=np.full_like(msr, np.inf), where=msw > 0)
    bound = ratio / f_distribution.ppf(0.975, n - 1, n * (k - 1))
    low = np.where(np.isinf(ratio), 1.0, (bound - 1) / (np.where(np.isinf(bound), 0, bound) + k - 1))
    dead = (msr == 0) & (msw == 0)
    return Icc(
        _share(msr - msw, msr + (k - 1) * msw),
        np.where(dead, np.nan, low),
        _share(msr - mse, msr + (k - 1) * mse + k * (msc - mse) / n),
        n,
        k,
    )


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole != 0)
