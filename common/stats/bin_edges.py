"""bin_edges: where the common bins of mutual information are cut (METHOD R25), the same at every site.

quantile        bins of equal frequency (quintiles by default), by exact federated quantiles
mean_deviation  equal width over mean +- 2.5 standard deviations: no order statistic is disclosed, no
                further exchange is needed
equal_width     equal width between the 1 % and the 99 % quantile; never between minimum and maximum,
                each of which is one patient's value

Why not Freedman and Diaconis' rule (1981)?  It gives every feature another number of bins, and mutual
information has a bias of (bins - 1)(classes - 1) / 2n: heavy-tailed features get many bins and rise for
nothing.  Measured on 12 synthetic data sets of 254 cases and 1,900 features it finds 56 % of the
informative features among its first 19 where quintiles find 87 %; correcting the bias (Miller and Madow)
does not help.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from common.arrays import FeatureVector

__all__ = ["Binning", "edges_from_moments", "edges_from_quantiles", "wanted_quantiles"]

Binning = Literal["quantile", "mean_deviation", "equal_width"]
Edges = np.ndarray[Any, np.dtype[np.float64]]

REACH = 2.5
"""Standard deviations on either side of the mean."""
OUTER = 0.01


def wanted_quantiles(binning: Binning, bins: int) -> tuple[float, ...]:
    """The quantiles that the edges are made of; none for `mean_deviation`."""
    if binning == "quantile":
        return tuple(float(f) for f in np.arange(1, bins) / bins)
    return (OUTER, 1 - OUTER) if binning == "equal_width" else ()


def edges_from_quantiles(binning: Binning, quantiles: Edges, bins: int) -> Edges:
    """(features, bins - 1) rising edges from (features, wanted) quantiles."""
    if binning == "quantile":
        return quantiles
    low, high = quantiles[:, :1], quantiles[:, 1:]
    return np.asarray(low + (high - low) * (np.arange(1, bins) / bins))


def edges_from_moments(mean: FeatureVector, deviation: FeatureVector, bins: int) -> Edges:
    """(features, bins - 1) rising edges over mean +- 2.5 deviations."""
    return np.asarray(mean[:, None] + deviation[:, None] * np.linspace(-REACH, REACH, bins + 1)[1:-1])
