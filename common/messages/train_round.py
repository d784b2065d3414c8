"""train_round: train the fused classifier on the site's training cases and send the change.

Leaves the site: the change of each weight, the number of training cases, and the loss of the incoming
model on them and on the cases held out (so that no extra exchange is needed to follow convergence); where the
protocol weighs sites by it, the variance of one case's gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from common.messages.base import Arrays, Reply, Request, StudyName
from common.messages.model import ModelState
from common.messages.weight_update import WeightUpdate
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, NARROW, WEIGHTS, FixedPoint

__all__ = ["TrainRoundReply", "TrainRoundRequest"]


class TrainRoundRequest(Request):
    """`round` starts at 1; it names the random stream of the batches.

    moments: digest of the model's visual moments, which are left out where every site asked has had them
    (common/messages/visual_moments.py).  change: of the weights since the study's first ones, where the model travels
    without weights (common/messages/broadcast.py).  class_weights: of (altered, not altered).  control: SCAFFOLD's
    control variate of the server, by name; the site's own lies in its cache under `study`.

    Version 2 has the digest.
    """

    schema_version: Literal[2] = 2  # type: ignore[assignment]  # each message counts its own versions
    action: ClassVar[str] = "train_round"
    study: StudyName
    round: int
    model: ModelState
    moments: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    class_weights: tuple[float, float] = (1.0, 1.0)
    change: WeightUpdate | None = None
    control: Arrays = Field(default_factory=dict)


class TrainRoundReply(Reply):
    """update: new weights minus incoming weights; cases: fitted; validation_cases: held out.

    gradient_variance: of one case, where the protocol weighs by it.

    loss: None under record-level privacy, which has no bound for it.

    Version 2 carries an encoded update and its round; version 3 the variance; version 4 may keep the loss.
    """

    sums: ClassVar[Mapping[str, FixedPoint]] = {
        "cases": COUNTS,
        "loss": NARROW,
        "validation_cases": COUNTS,
        "validation_loss": NARROW,
        "update": WEIGHTS,
    }
    """Losses and changes are weighted by their cases, so that the totals give the means."""

    schema_version: Literal[4] = 4  # type: ignore[assignment]  # each message counts its own versions
    round: int
    cases: int
    loss: float | None = None
    validation_cases: int = 0
    validation_loss: float | None = None
    gradient_variance: float | None = None
    update: WeightUpdate

    def discloses(self) -> Disclosure:
        """An update and, at most, two mean losses."""
        return Disclosure(cases={"cases": self.cases, "validation_cases": self.validation_cases})

    def summands(self) -> dict[str, tuple[Any, float]]:
        """Each array of an update in float32 by itself."""
        changes = {f"update:{name}": (part, float(self.cases)) for name, part in self.update.parts.items()}
        return {
            "cases": (self.cases, 1.0),
            "loss": (self.loss or 0.0, float(self.cases)),
            "validation_cases": (self.validation_cases, 1.0),
            "validation_loss": (self.validation_loss or 0.0, float(self.validation_cases)),
            **changes,
        }

    @classmethod
    def of_sums(cls, site: str, totals: Mapping[str, np.ndarray[Any, Any]], request: Request) -> Self:
        """Weighted means over all cases."""
        if not isinstance(request, TrainRoundRequest):
            raise TypeError("the answer to a training round")
        cases, held_out = int(totals["cases"]), int(totals["validation_cases"])
        # A cross-entropy is above zero: a total of exactly zero is of sites that told none.
        loss = float(totals["loss"]) / max(cases, 1) or None
        changes = {name.partition(":")[2]: total for name, total in totals.items() if name.startswith("update:")}
        parts = {
            name: np.divide(total, max(cases, 1), out=np.empty(total.shape, np.float32), casting="same_kind")
            for name, total in changes.items()
        }
        return cls(
            site=site,
            round=request.round,
            cases=cases,
            loss=loss,
            validation_cases=held_out,
            validation_loss=float(totals["validation_loss"]) / held_out if held_out else None,
            update=WeightUpdate(encoding="float32", parts=parts),
        )
