"""evaluate: score the site's cases with the final model; histograms leave, scores do not.

Leaves the site: cases per cell of the logit of the safety score, by class, for training and test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request
from common.messages.model import ModelState
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, FixedPoint

__all__ = ["EvaluateReply", "EvaluateRequest"]


class EvaluateRequest(Request):
    """The site keeps the scores of its own cases in its cache, under the study's name."""

    action: ClassVar[str] = "evaluate"
    study: str
    model: ModelState


class EvaluateReply(Reply):
    """Counts per cell: (not altered, altered) x cells."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"training": COUNTS, "test": COUNTS}
    training: Array
    test: Array

    def discloses(self) -> Disclosure:
        """Fine cells by class are the ROC curve's own points (Matthews and Harel 2013)."""
        return Disclosure(counts={"training": self.training, "test": self.test}, by_label=True)
