"""update_gate: what a change of weights must be before it leaves a site, and again before it is added to others.

One NaN poisons the mean of all sites, and clipping keeps it; an update of another round or a thousandfold too long
ruins the model as surely.  So it is checked twice, by the same rules, and refused by a code:

    update-keys, update-dtype, update-shape    common/messages/weight_update.py, while it is decoded
    update-not-finite, update-too-large        a number is NaN or infinite, or beyond `largest_value`
    update-norm                                the whole change is longer than `largest_norm`
    update-cases                               none, or more than the site has said in `qualify`
    update-round                               of another round than the one asked for
    update-loss                                a loss without bounds, or over cases that are not there
    update-variance                            no positive variance, where sites are weighed by it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from common.config.training import TrainingSettings
from common.errors import WireError
from common.messages.weight_update import Change, LowRank
from common.stats.weight_norm import weight_norm

__all__ = ["check_cases", "check_changes", "check_losses", "check_round", "check_variance"]

LARGEST_LOSS = 1e12
SMALLEST_VARIANCE, LARGEST_VARIANCE = 1e-60, 1e60
SLACK = 1e-3
"""For single precision's rounding of an orthonormal column."""


def check_changes(changes: Mapping[str, Change], training: TrainingSettings) -> None:
    """Finite, and within the protocol's bounds.

    Of a low-rank change the right factor is looked at, which is as long as the product; decay cannot take away more
    than there is.
    """
    numbers = {name: change.right if isinstance(change, LowRank) else change for name, change in changes.items()}
    squares = 0.0
    for name in sorted(changes):
        _check_factors(name, changes[name])
        length = weight_norm({name: numbers[name]})
        if not np.isfinite(length):
            raise _refused("update-not-finite", name, "The update holds NaN or infinity.")
        # No number is larger than all of them together are long: a short array need not be searched.
        if length > training.largest_value and np.abs(numbers[name]).max() > training.largest_value:
            raise _refused("update-too-large", name, "A number of the update is beyond training.largest_value.")
        squares += length**2
    if squares > training.largest_norm**2:
        raise _refused("update-norm", "update", "The update is longer than training.largest_norm.")


def _check_factors(name: str, change: Change) -> None:
    """Left columns no longer than one: else a short right factor could hide a long product."""
    if isinstance(change, LowRank) and not (
        np.linalg.norm(change.left, axis=0).max(initial=0) <= 1 + SLACK and abs(change.kept) <= 1
    ):
        raise _refused(
            "update-too-large", name, "The update's left factor is not orthonormal, or its decay is beyond all."
        )


def check_cases(cases: int, most: int) -> None:
    """At least one, and no more than the site has told of."""
    if not 0 < cases <= most:
        raise _refused("update-cases", "cases", "The update claims no case, or more than the site qualified with.")


def check_round(found: int, wanted: int) -> None:
    """Of the round that was asked for."""
    if found != wanted:
        raise _refused("update-round", "round", "The update belongs to another round.")


class Losses(Protocol):
    """A reply with a mean loss over its cases."""

    @property
    def cases(self) -> int:
        """Fitted."""
        ...

    @property
    def loss(self) -> float | None:
        """Of the incoming model on them, where it is told."""
        ...


def check_losses(reply: Losses, most: int) -> None:
    """A loss that can be averaged, over no more cases than there are."""
    held_out, of_those = getattr(reply, "validation_cases", 0), getattr(reply, "validation_loss", None)
    if not 0 <= held_out <= most - reply.cases:
        raise _refused("update-cases", "validation_cases", "More cases are held out than the site has.")
    if max(abs(reply.loss or 0.0), abs(of_those or 0.0)) > LARGEST_LOSS:
        raise _refused("update-loss", "loss", "The loss is beyond all bounds.")


def check_variance(variance: float | None, training: TrainingSettings) -> None:
    """Positive, where sites are weighed by its inverse."""
    if training.weighting == "inverse_variance" and not (
        variance is not None and SMALLEST_VARIANCE < variance < LARGEST_VARIANCE
    ):
        raise _refused("update-variance", "gradient_variance", "The update has no positive variance to be weighed by.")


def _refused(code: str, field: str, problem: str) -> WireError:
    return WireError(
        code,
        field=field,
        problem=problem,
        fix="Look for a learning rate that is too high, damaged features, or a site that repeats old answers.",
    )
