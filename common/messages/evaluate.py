"""evaluate: score the site's cases with the final model; histograms leave, scores do not.

Leaves the site: cases per cell of the logit of the safety score, by class, for training and test.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from common.messages.base import Array, Reply, Request, StudyName
from common.messages.model import ModelState

__all__ = ["EvaluateReply", "EvaluateRequest"]


class EvaluateRequest(Request):
    """The site keeps the scores of its own cases in its cache, under the study's name.

    before: the model is the released one that the study goes on from; its scores are kept apart.
    origin_study: of that model, empty for none; a case that it learned from must not be tested.
    """

    action: ClassVar[str] = "evaluate"
    study: StudyName
    model: ModelState
    before: bool = False
    origin_study: StudyName | Literal[""] = ""


class EvaluateReply(Reply):
    """Counts per cell: (not altered, altered) x cells."""

    training: Array
    test: Array
