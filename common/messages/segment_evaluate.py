"""segment_evaluate: segment the site's test cases with the final network and compare with their true masks.

Leaves the site: how many cases, and mean and standard deviation of their Dice and HD95.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from common.messages.base import Arrays, Reply, Request
from common.privacy.disclosure import Disclosure

__all__ = ["SegmentEvaluateReply", "SegmentEvaluateRequest"]


class SegmentEvaluateRequest(Request):
    """The site keeps each case's values in its cache, under the study's name."""

    action: ClassVar[str] = "segment_evaluate"
    study: str
    weights: Arrays


class SegmentEvaluateReply(Reply):
    """dice_mean, dice_sd: over all `cases`; an empty mask counts with Dice 0.

    hd95_mean_mm: over the `hd95_cases` in which something was found; None without any.  Standard deviations divide by
    the number of cases.
    """

    cases: Annotated[int, Field(ge=0)]
    dice_mean: Annotated[float, Field(ge=0, le=1)] | None
    dice_sd: Annotated[float, Field(ge=0, le=1)] | None
    hd95_cases: Annotated[int, Field(ge=0)]
    hd95_mean_mm: Annotated[float, Field(ge=0)] | None

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        told = ((self.cases, self.dice_mean), (self.cases, self.dice_sd), (self.hd95_cases, self.hd95_mean_mm))
        if self.hd95_cases > self.cases or any((count > 0) != (value is not None) for count, value in told):
            raise ValueError("a mean is told exactly where there are cases")
        return self

    def discloses(self) -> Disclosure:
        """Means over the cases."""
        return Disclosure(cases={"cases": self.cases, "hd95_cases": self.hd95_cases})
