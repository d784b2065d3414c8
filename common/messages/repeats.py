"""repeats: sums over the repeated measurements of this site's training cases, for the stability of every feature.

First about zero, which tells the mean; then about it.  Leaves the site: the number of training cases measured
repeatedly, one sum per feature and repetition, two sums of squares per feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, WIDE, FixedPoint

__all__ = ["RepeatsReply", "RepeatsRequest"]


class RepeatsRequest(Request):
    """centre: (features), what sums and squares are taken about."""

    action: ClassVar[str] = "repeats"
    centre: Array


class RepeatsReply(Reply):
    """columns: (repetitions, features); between, within: (features)."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"count": COUNTS, "columns": WIDE, "between": WIDE, "within": WIDE}
    count: int
    columns: Array
    between: Array
    within: Array

    def discloses(self) -> Disclosure:
        """Sums over the cases measured repeatedly."""
        return Disclosure(cases={"count": self.count})
