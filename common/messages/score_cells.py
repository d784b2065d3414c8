"""score_cells: cases of a site's test set by the next bits of their scores, for an AUC without any bound.

Asked only where the protocol says `evaluation.auc: exact`; three to eight exchanges (common/metrics/score_search.py).
Leaves the site: counts.  Together they give away the whole ROC curve and the leading bits of single scores: that is
what the consortium agrees to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.messages.base import Array, Reply, Request, StudyName
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import COUNTS, FixedPoint

__all__ = ["ScoreCellsReply", "ScoreCellsRequest"]


class ScoreCellsRequest(Request):
    """prefixes: rising first `depth` bits of the scores' keys, uint64; `bits` more are to be told apart.

    The scores are those that the site kept when it evaluated `study`.
    """

    action: ClassVar[str] = "score_cells"
    study: StudyName
    prefixes: Array
    depth: int
    bits: int


class ScoreCellsReply(Reply):
    """counts: (prefixes, 2^bits, 2); classes are (not altered, altered)."""

    sums: ClassVar[Mapping[str, FixedPoint]] = {"counts": COUNTS}
    counts: Array

    def discloses(self) -> Disclosure:
        """Bits of single scores, by class."""
        return Disclosure(counts={"counts": self.counts}, by_label=True)
