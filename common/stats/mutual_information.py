"""mutual_information: I(bin; class) from contingency tables.

Law: equal to `sklearn.metrics.mutual_info_score` of the pooled binned data to 1e-12 nats.

The trap of R25: `mutual_info_score` takes labels.  On continuous values every value is its own cluster, so
every feature scores H(class) = ln 2 and SelectKBest keeps whatever stands last.  Tables with about as many
bins as cases are therefore refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.errors import Refused

__all__ = ["mutual_information"]


def mutual_information(counts: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Nats per feature, from (features, bins, classes) counts."""
    total = int(counts[0].sum())
    if counts.shape[1] > max(2, total // 2):
        raise Refused(
            "values-not-discretised",
            field="selection.bins",
            problem="There are about as many bins as cases, so every feature would score ln 2.",
            fix="Discretise first: five equal-frequency bins are the default.",
        )
    joint = counts / total
    outer = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log(joint / outer), 0.0)
    return np.asarray(np.maximum(terms.sum(axis=(1, 2)), 0.0))
