"""weighted_average: federated averaging of weight changes (McMahan et al. 2017, arXiv 1602.05629).

    w <- w + sum_k (n_k / n) delta_k

The sum runs in float64 in the order given, which callers fix by site name: the order in which replies
arrive never changes a bit.  With one full-batch gradient step per site this is exactly pooled gradient
descent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import WireError

__all__ = ["weighted_average"]

Weights = dict[str, np.ndarray[Any, Any]]


def weighted_average(
    before: Mapping[str, np.ndarray[Any, Any]],
    deltas: Sequence[Mapping[str, np.ndarray[Any, Any]]],
    cases: Sequence[int],
) -> Weights:
    """New float32 weights; every site's change must have the model's names and shapes."""
    for delta in deltas:
        _require_same_shapes(before, delta)
    total = sum(cases)
    after: Weights = {}
    for name, weight in before.items():
        change = np.zeros(weight.shape)
        for delta, n in zip(deltas, cases, strict=True):
            change += (n / total) * delta[name].astype(np.float64)
        after[name] = (weight + change).astype(np.float32)
    return after


def _require_same_shapes(before: Mapping[str, np.ndarray[Any, Any]], delta: Mapping[str, np.ndarray[Any, Any]]) -> None:
    wrong = sorted(set(before) ^ set(delta)) or [n for n in before if before[n].shape != delta[n].shape]
    if wrong:
        raise WireError(
            "update-shape",
            field=", ".join(wrong),
            problem="A site's update has other names or shapes than the model.",
            fix="Check that all sites run the same version and protocol.",
        )
