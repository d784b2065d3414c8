"""train_round: train the fused classifier on the site's training cases and send the change.

Leaves the site: the change of each weight, the number of training cases, and the loss of the incoming
model on them and on the cases held out (so that no extra exchange is needed to follow convergence).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from common.messages.base import Arrays, Reply, Request
from common.messages.model import ModelState
from common.messages.weight_update import WeightUpdate
from common.privacy.disclosure import Disclosure

__all__ = ["TrainRoundReply", "TrainRoundRequest"]


class TrainRoundRequest(Request):
    """`round` starts at 1; it names the random stream of the batches.

    change: of the weights since the study's first ones, where the model travels without weights
    (common/messages/broadcast.py).  class_weights: of (altered, not altered).  control: SCAFFOLD's control variate of the server, by name; the
    site's own lies in its cache under `study`.
    """

    action: ClassVar[str] = "train_round"
    study: str
    round: int
    model: ModelState
    class_weights: tuple[float, float] = (1.0, 1.0)
    change: WeightUpdate | None = None
    control: Arrays = Field(default_factory=dict)


class TrainRoundReply(Reply):
    """update: new weights minus incoming weights; cases: fitted; validation_cases: held out.

    Version 2 carries an encoded update and its round.
    """

    schema_version: Literal[2] = 2  # type: ignore[assignment]  # each message counts its own versions
    round: int
    cases: int
    loss: float
    validation_cases: int = 0
    validation_loss: float | None = None
    update: WeightUpdate

    def discloses(self) -> Disclosure:
        """An update and two mean losses."""
        return Disclosure(cases={"cases": self.cases, "validation_cases": self.validation_cases})
