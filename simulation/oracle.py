"""oracle: what one computer with all the data would get, computed without the federation's code where a
library has the same thing: numpy's quantiles, scikit-learn's standardisation and mutual information.

The federated results must equal these (DESIGN section 1); the replay report prints the differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import StandardScaler

from client.store.cohort import SiteCohort
from client.training.fused import train_locally
from common.catalogue import PAPER_SIGNATURE, radiomics_names
from common.config.protocol import Protocol
from common.messages.model import ModelState
from common.networks.fused_head import initial_weights
from common.tables import TrainingTable
from server.strategy.weighted_average import weighted_average

__all__ = ["Oracle", "pooled_oracle", "with_model"]

DIGITS = 12


@dataclass(frozen=True)
class Oracle:
    """mutual_information: nats, catalogue order; NaN-free; empty for a fixed signature."""

    radiomics_mean: np.ndarray[Any, Any]
    radiomics_deviation: np.ndarray[Any, Any]
    mutual_information: np.ndarray[Any, Any]
    model: ModelState
    losses: tuple[float, ...]


def pooled_oracle(
    cohort: SiteCohort,
    protocol: Protocol,
    *,
    site: str,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda _: None,
) -> Oracle:
    """Standardise, select and train on all training cases of `cohort`.

    site: names the stream of batches, so that a federation of this one site trains bit for bit alike.
    """
    training = cohort.training
    scaler = StandardScaler().fit(training.table.values)
    mi = _mutual_information(training.table, protocol.selection.bins)
    signature = _signature(mi, protocol)
    columns = [radiomics_names().index(name) for name in signature]
    mean, deviation = _visual_moments(training.visual)
    model = ModelState(
        weights=initial_weights(protocol.visual.length, len(signature), protocol.head, seed=protocol.seed),
        signature=signature,
        radiomics_mean=scaler.mean_[columns],
        radiomics_deviation=scaler.scale_[columns],
        visual_mean=mean,
        visual_deviation=deviation,
    )
    losses = []
    for number in range(1, protocol.training.rounds + 1):
        update = train_locally(
            training.table,
            training.visual,
            model,
            head=protocol.head,
            training=protocol.training,
            seed=protocol.seed,
            site=site,
            round_number=number,
            device=device,
        )
        losses.append(update.loss)
        model = with_model(model, weighted_average(model.weights, [update.deltas], [update.cases]))
        progress(number)
    return Oracle(scaler.mean_, scaler.scale_, mi, model, tuple(losses))


def with_model(model: ModelState, weights: dict[str, np.ndarray[Any, Any]]) -> ModelState:
    """The same model with other weights."""
    return model.model_copy(update={"weights": weights})


def _signature(mi: np.ndarray[Any, Any], protocol: Protocol) -> tuple[str, ...]:
    """The k best, ties by name, as SelectKBest with a defined order."""
    if protocol.selection.method == "fixed_signature":
        return PAPER_SIGNATURE
    names = radiomics_names()
    order: Sequence[int] = sorted(range(len(names)), key=lambda i: (-round(float(mi[i]), DIGITS), names[i]))
    return tuple(names[i] for i in order[: protocol.selection.k])


def _mutual_information(table: TrainingTable, bins: int) -> np.ndarray[Any, Any]:
    """Sklearn's mutual_info_score over numpy's equal-frequency bins."""
    edges = np.quantile(table.values, np.arange(1, bins) / bins, axis=0)
    return np.array(
        [
            mutual_info_score(table.altered, np.searchsorted(edges[:, j], column, side="right"))
            for j, column in enumerate(table.values.T)
        ]
    )


def _visual_moments(visual: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Numpy's mean and standard deviation in float64, as they travel in float32."""
    mean = visual.mean(axis=0, dtype=np.float64)
    deviation = visual.std(axis=0, dtype=np.float64)
    constant = deviation <= 1e-12 * np.maximum(np.abs(mean), 1)
    return mean.astype(np.float32), np.where(constant, 1, deviation).astype(np.float32)
