"""select: the signature: common quantile edges, summed contingency tables, mutual information, the k best
(R25, R26), or the paper's fixed nineteen.

Exact: edges equal numpy's quantiles of the pooled training cases to the bit, counts are integers, so the
selection is the pooled one (common/stats states the laws).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from common.catalogue import PAPER_SIGNATURE, radiomics_names
from common.messages.base import Array, Reply
from common.messages.contingency import ContingencyReply, ContingencyRequest
from common.messages.quantiles import QuantilesReply, QuantilesRequest
from common.stats import contingency, quantiles
from common.stats.mutual_information import mutual_information, select_k_best
from server.state import Selection, StudyState

__all__ = ["Select"]


class Select:
    """Some exchanges to find the edges, one for the tables; none with a fixed signature."""

    name: ClassVar[str] = "select"
    fixed_roster: ClassVar[bool] = True

    def request(self, state: StudyState) -> QuantilesRequest | ContingencyRequest | None:
        """Thresholds until the edges are exact, then the tables."""
        if state.selection is not None:
            return None
        search = state.scratch if state.scratch is not None else _begin(state)
        fingerprint = state.protocol.fingerprint()
        if quantiles.finished(search):
            return ContingencyRequest(fingerprint=fingerprint, edges=quantiles.finish(search))
        return QuantilesRequest(fingerprint=fingerprint, thresholds=quantiles.thresholds(search))

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Narrow the search, or choose."""
        search = state.scratch if state.scratch is not None else _begin(state)
        counted = [reply.counts for reply in replies.values() if isinstance(reply, QuantilesReply)]
        if counted:
            return state.evolve(scratch=quantiles.advance(search, np.sum(counted, axis=0)))
        tables = [reply.counts for reply in replies.values() if isinstance(reply, ContingencyReply)]
        scores = mutual_information(contingency.combine(tables))
        return state.evolve(scratch=None, selection=_choose(state, scores, quantiles.finish(search)))


def fixed_selection() -> Selection:
    """The paper's nineteen, chosen before any data were seen; nothing to ask."""
    features = len(radiomics_names())
    return Selection(
        signature=PAPER_SIGNATURE,
        mutual_information=np.zeros(features),
        edges=np.zeros((features, 0)),
        ties=(),
    )


def _begin(state: StudyState) -> quantiles.Search:
    if state.moments is None:
        raise ValueError("selection begins after harmonise")
    bins = state.protocol.selection.bins
    return quantiles.start(len(radiomics_names()), bins=bins, cases=state.moments.cases)


def _choose(state: StudyState, scores: Array, edges: Array) -> Selection:
    chosen = select_k_best(radiomics_names(), scores, state.protocol.selection.k)
    return Selection(signature=chosen.names, mutual_information=scores, edges=edges, ties=chosen.ties)
