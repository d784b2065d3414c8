"""train_round: train the fused classifier on the site's training cases and send the change.

Leaves the site: the change of each weight, the number of training cases, and the loss of the incoming
model on them (so that no extra exchange is needed to follow convergence).
"""

from __future__ import annotations

from typing import ClassVar

from common.messages.base import Arrays, Reply, Request
from common.messages.model import ModelState

__all__ = ["TrainRoundReply", "TrainRoundRequest"]


class TrainRoundRequest(Request):
    """`round` starts at 1; it names the random stream of the batches."""

    action: ClassVar[str] = "train_round"
    round: int
    model: ModelState


class TrainRoundReply(Reply):
    """deltas: new weights minus incoming weights, float32."""

    cases: int
    loss: float
    deltas: Arrays
