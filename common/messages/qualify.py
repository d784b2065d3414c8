"""qualify: does the site run this protocol, and with how many cases?

Leaves the site: its name, counts of training and test cases by class, the names of the batches (scanners) of its
training cases where the protocol harmonises them, software versions, and the features of a phantom that is made of
arithmetic and holds no patient.
"""

from __future__ import annotations

from typing import Any, ClassVar

from common.config.study import Trains
from common.messages.base import Array, Reply, Request

__all__ = ["QualifyReply", "QualifyRequest"]


class QualifyRequest(Request):
    """`protocol` in full, so that a site which differs can name the field that differs.

    trains: a study of the segmentation network asks for cases with masks instead of cases with features.
    """

    action: ClassVar[str] = "qualify"
    protocol: dict[str, Any]
    trains: Trains = "classifier"


class QualifyReply(Reply):
    """Counts by class: (altered, not altered).  phantom: its features at the site, catalogue order."""

    training_cases: tuple[int, int]
    test_cases: tuple[int, int]
    batches: tuple[str, ...] = ()
    versions: dict[str, str]
    phantom: Array | None = None
