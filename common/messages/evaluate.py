"""evaluate: score the site's cases with the final model; histograms leave, scores do not.

Leaves the site: cases per cell of the logit of the safety score, by class, for training and test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from common.messages.base import Array, Reply, Request, StudyName
from common.messages.model import ModelState
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, FixedPoint

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
    """Counts per cell: (not altered, altered) x cells; of no training case under record-level privacy."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"training": COUNTS, "test": COUNTS}
    training: Array
    test: Array

    def discloses(self) -> Disclosure:
        """Fine cells by class are the ROC curve's own points (Matthews and Harel 2013)."""
        training = {"training": self.training} if np.any(self.training) else {}
        return Disclosure(counts={**training, "test": self.test}, by_label=True)
