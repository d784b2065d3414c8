"""qualify: does the site run this protocol, and with how many cases?

Leaves the site: its name, counts of training and test cases by class, the names of the batches (scanners) of its
training cases where the protocol harmonises them, software versions, and the features of a phantom that is made of
arithmetic and holds no patient.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np

from common.config.study import Trains
from common.messages.base import Array, Reply, Request
from common.privacy.disclosure import Disclosure

__all__ = ["QualifyReply", "QualifyRequest"]


class QualifyRequest(Request):
    """`protocol` in full, so that a site which differs can name the field that differs.

    trains: a study of the segmentation network asks for cases with masks instead of cases with features.
    """

    action: ClassVar[str] = "qualify"
    protocol: dict[str, Any]
    trains: Trains = "classifier"


class QualifyReply(Reply):
    """training_cases: (altered, not altered), or (all,) from a site that may tell no counts by class.
    test_cases: (altered, not altered), rounded, None where the count is too small to be told; only read.
    phantom: its features at the site, catalogue order.

    Version 2: the door may withhold and round.
    """

    schema_version: Literal[2] = 2  # type: ignore[assignment]  # each message counts its own versions
    training_cases: tuple[int, int] | tuple[int]
    test_cases: tuple[int | None, ...]
    batches: tuple[str, ...] = ()
    versions: dict[str, str]
    phantom: Array | None = None

    @property
    def tested(self) -> int | None:
        """Test cases, as far as they are told; None where a count is withheld."""
        told = [count for count in self.test_cases if count is not None]
        return sum(told) if told and len(told) == len(self.test_cases) else None

    def discloses(self) -> Disclosure:
        """Counts by class of the training cases, which the study computes with, and of the test cases."""
        return Disclosure(
            counts={"training_cases": np.array(self.training_cases)},
            told=("test_cases",),
            by_label=len(self.training_cases) == 2,
        )

    def without_labels(self) -> Self:
        """Only how many training cases there are."""
        return self.model_copy(update={"training_cases": (sum(self.training_cases),), "test_cases": ()})
