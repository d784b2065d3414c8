"""variate: what a site keeps of itself between rounds under SCAFFOLD and FedDyn, as large as the model.

    SCAFFOLD  drift = server's c - own c_k;  c_k <- -drift - change / (steps x rate)      (server/strategy/scaffold.py)
    FedDyn    drift = -own g_k;              g_k <- -drift - proximal x change            (server/strategy/feddyn.py)

The drift is added to every gradient.  The change is taken as it was sent, so that the server can follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from client.training.local_task import LocalTask

__all__ = ["drift_of", "next_variate"]

Weights = Mapping[str, np.ndarray[Any, Any]]


def drift_of(own: Weights, control: Weights) -> dict[str, np.ndarray[Any, Any]]:
    """control: the server's, by name; what is missing (FedDyn's, and the first round's) is zero."""
    return {key: control.get(key, np.float32(0)) - variate for key, variate in own.items()}


def next_variate(changes: Weights, task: LocalTask, cases: int) -> dict[str, np.ndarray[Any, Any]]:
    """The site's next one; cases: that were fitted."""
    training = task.training
    if training.strategy == "feddyn":
        factor = np.float32(training.proximal)
    else:
        factor = np.float32(1 / (training.steps(cases) * training.rate(task.round_number)))
    return {name: -drift - factor * changes[name] for name, drift in task.drift.items()}
