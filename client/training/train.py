"""train: one round at one site, by the fastest way that is exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from client.training.fused import train_plain
from client.training.gradient_variance import gradient_variance
from client.training.gram import BIG, train_gram
from client.training.local_task import LocalTask, LocalUpdate, mean_loss, targets
from client.training.low_rank import factorise
from client.training.score import fused_logits_of
from common.errors import Refused
from common.messages.weight_update import SMALL, Change
from common.seeds import stream

__all__ = ["train_locally"]


def train_locally(task: LocalTask) -> LocalUpdate:
    """Train on the cases that are not held out; on the Gram matrix where the optimiser allows it.

    The changes come in the form that the protocol's encoding needs.
    """
    if task.training.encoder_rate and task.backbone is None:
        raise Refused(
            "images-missing",
            site=task.site,
            field="training.encoder_rate",
            problem="The encoder learns from images, and there are only features here.",
            fix="Run it as a study over sites with prepared images, or set training.encoder_rate to 0.",
        )
    if task.private is not None:
        from client.training.private import train_private  # Opacus: two seconds that only private studies need

        return _in_wire_form(train_private(task, task.private), task)
    held_out = _held_out(task)
    fitted, checked = _part(task, ~held_out), _part(task, held_out)
    training, tolerance = task.training, _rank_tolerance(task)
    update = train_gram(fitted, rank_tolerance=tolerance) if training.linear else train_plain(fitted)
    update = _in_wire_form(update, task)
    if training.weighting == "inverse_variance":
        update = replace(update, gradient_variance=gradient_variance(fitted))
    if not held_out.any():
        return update
    return replace(update, validation_loss=_loss(checked), validation_cases=len(checked.table))


def _rank_tolerance(task: LocalTask) -> float | None:
    """Of the big layer's change; None where it travels whole."""
    factored = task.training.wire_encoding.startswith("low_rank") and task.model.weights[BIG].size >= SMALL
    return task.training.rank_tolerance if factored else None


def _in_wire_form(update: LocalUpdate, task: LocalTask) -> LocalUpdate:
    """Large changes as factors where the encoding wants them so."""
    tolerance = _rank_tolerance(task)
    if tolerance is None:
        return update
    changes: dict[str, Change] = {
        name: factorise(change, tolerance) if isinstance(change, np.ndarray) and change.size >= SMALL else change
        for name, change in update.changes.items()
    }
    return replace(update, changes=changes)


def _held_out(task: LocalTask) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Validation cases: floor(share x cases) of each class, the same in every round."""
    chosen = np.zeros(len(task.table), dtype=bool)
    rng = stream(task.seed, task.site, "validation")
    for label in (True, False):
        members = np.flatnonzero(task.table.altered == label)
        wanted = int(task.training.validation_fraction * len(members) + 1e-9)
        chosen[rng.permutation(members)[:wanted]] = True
    return chosen


def _part(task: LocalTask, wanted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> LocalTask:
    table = replace(task.table, values=task.table.values[wanted], altered=task.table.altered[wanted])
    gram = None if task.gram is None else task.gram[np.ix_(wanted, wanted)]
    places = np.flatnonzero(wanted).tolist()
    backbone = None if task.backbone is None else task.backbone.take(places)
    return replace(task, table=table, visual=task.visual.take(places), gram=gram, backbone=backbone)


def _loss(task: LocalTask) -> float:
    """Of the incoming model."""
    logits = fused_logits_of(task.table, task.visual, task.model, head=task.head, device=task.device)
    return float(mean_loss(logits, targets(task.table, task.device), task.class_weights))
