"""evaluate: histograms of the safety score by class, from every site, for training and test cases; where the
protocol wants the AUC without a bound, an exact search among the test scores follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from common.messages.base import Array, Reply, Request
from common.messages.evaluate import EvaluateReply, EvaluateRequest
from common.messages.score_cells import ScoreCellsReply, ScoreCellsRequest
from common.metrics import score_search
from server.phases.base import Phase
from server.phases.form import Form, counts
from server.state import ALL_SITES, StudyState

__all__ = ["Evaluate", "score_histograms"]


@dataclass(frozen=True)
class _Progress:
    """training: summed; test: of each site; both (not altered, altered) x cells."""

    training: Array
    test: dict[str, Array]
    search: score_search.ScoreSearch


class Evaluate(Phase):
    """One exchange, and three to eight more for an exact AUC; counts are summed, scores stay where they are."""

    name: ClassVar[str] = "evaluate"
    fixed_roster: ClassVar[bool] = True

    def request(self, state: StudyState) -> Request | None:
        """Histograms with the final model, then cells that still hold both classes."""
        if state.histograms:
            return None
        fingerprint, progress = state.protocol.fingerprint(), state.scratch
        if not isinstance(progress, _Progress):
            return EvaluateRequest(
                fingerprint=fingerprint,
                study=state.study,
                model=state.model(),
                origin_study="" if state.origin is None else state.origin.study,
            )
        asked = score_search.request(progress.search)
        return ScoreCellsRequest(
            fingerprint=fingerprint, study=state.study, prefixes=asked.prefixes, depth=asked.depth, bits=asked.bits
        )

    def forms(self, state: StudyState, request: Request) -> Mapping[str, Form]:
        """Histograms, or cells of those asked about."""
        if isinstance(request, ScoreCellsRequest):
            return {"counts": counts(len(request.prefixes), 1 << request.bits, 2)}
        return score_histograms(state)

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Sum the sites' counts."""
        parts = {site: reply for site, reply in replies.items() if isinstance(reply, EvaluateReply)}
        if parts:
            training = np.sum([part.training for part in parts.values()], axis=0)
            progress = _Progress(training, {site: part.test for site, part in parts.items()}, score_search.start())
        else:
            cells = [reply.counts for reply in replies.values() if isinstance(reply, ScoreCellsReply)]
            search = score_search.advance(state.scratch.search, np.asarray(np.sum(cells, axis=0)))
            progress = replace(state.scratch, search=search)
        if state.protocol.evaluation.auc == "exact" and not score_search.finished(progress.search):
            return state.evolve(scratch=progress)
        return _concluded(state, progress)


def score_histograms(state: StudyState) -> Mapping[str, Form]:
    """(not altered, altered) x cells, of training and test cases."""
    form = counts(2, state.protocol.evaluation.score_cells)
    return {"training": form, "test": form}


def _concluded(state: StudyState, progress: _Progress) -> StudyState:
    test = np.sum(list(progress.test.values()), axis=0)
    exact: dict[str, Array] = {}
    if state.protocol.evaluation.auc == "exact":
        cells = score_search.finish(progress.search)
        exact = {"lower": cells.lower, "altered": cells.altered, "not_altered": cells.not_altered}
    return state.evolve(
        scratch=None,
        histograms={**({"training": progress.training} if np.any(progress.training) else {}), "test": test},
        site_histograms={} if ALL_SITES in progress.test else progress.test,
        score_cells=exact,
    )
