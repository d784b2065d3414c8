"""stability: which features tell patients apart although scan and contour change a little (METHOD section 4, rank 9).

Only where the protocol says `selection.smallest_icc`: two exchanges, sums and then squares about the pooled mean, and
the ICC(1,1) of every feature as one computer with all repeated measurements would have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from common.errors import InputError
from common.messages.base import Array, Reply, Request
from common.messages.repeats import RepeatsReply, RepeatsRequest
from common.stats import icc
from server.phases.base import Phase
from server.phases.form import Form, require_some_cases
from server.state import StudyState

__all__ = ["Stability", "admitted"]


class Stability(Phase):
    """Before selection; the same sites in both exchanges."""

    name: ClassVar[str] = "stability"
    fixed_roster: ClassVar[bool] = True

    def request(self, state: StudyState) -> RepeatsRequest | None:
        """About zero, then about the mean."""
        chosen = state.origin is not None  # the release's signature stays
        if state.protocol.selection.smallest_icc is None or state.icc is not None or chosen:
            return None
        centre = np.zeros(len(state.protocol.radiomics.names())) if state.scratch is None else state.scratch
        return RepeatsRequest(fingerprint=state.protocol.fingerprint(), centre=centre)

    def forms(self, state: StudyState, request: Request) -> Mapping[str, Form]:
        """Of every measurement and feature."""
        del request
        features = len(state.protocol.radiomics.names())
        squares = Form((features,), positive=True)
        columns = Form((state.protocol.radiomics.perturbations, features))
        return {"columns": columns, "between": squares, "within": squares}

    def admit(self, state: StudyState, request: Request, reply: Reply) -> Reply:
        """Of as many cases as there can be."""
        if isinstance(reply, RepeatsReply):
            require_some_cases(state, reply.site, reply.count, "count")
        return super().admit(state, request, reply)

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """The mean, or the coefficients; a feature that never moves has 0, for it tells nobody apart."""
        answers = [reply for reply in replies.values() if isinstance(reply, RepeatsReply)]
        sums = icc.combine([icc.IccSums(r.count, r.columns, r.between, r.within) for r in answers])
        if state.scratch is None:
            return state.evolve(scratch=sums.columns.mean(axis=0) / sums.count)
        found = state.evolve(scratch=None, icc=np.nan_to_num(icc.finish(sums).one_way))
        stable, wanted = int(admitted(found).sum()), state.protocol.selection.k
        if stable < wanted:
            raise InputError(
                "too-few-stable-features",
                field="selection.smallest_icc",
                problem=f"{stable} feature(s) are stable enough; the signature wants {wanted}.",
                fix="Lower selection.smallest_icc or selection.k in the protocol.",
            )
        return found


def admitted(state: StudyState) -> Array:
    """(features,) True for those that selection may choose."""
    limit = state.protocol.selection.smallest_icc
    if limit is None or state.icc is None:
        return np.ones(len(state.protocol.radiomics.names()), dtype=bool)
    return np.asarray(state.icc >= limit)
