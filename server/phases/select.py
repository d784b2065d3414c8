"""select: the signature (R25, R26), by the protocol's method:

    mutual_information   [quantile edges] -> contingency tables -> MI -> the k best
    decorrelated, mrmr   the same, then correlations of the best candidates
    anova_f              sums by class -> F -> the k best
    fixed_signature      the paper's nineteen; nothing is asked

With `smallest_icc` only features that are stable enough take part (server/phases/stability.py).

Exact: edges equal numpy's quantiles of the pooled training cases to the bit, counts are integers, so the
selection is the pooled one (common/stats states the laws).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from common.catalogue import PAPER_SIGNATURE
from common.errors import WireError
from common.messages.anova import AnovaReply, AnovaRequest
from common.messages.base import Array, Reply, Request
from common.messages.contingency import ContingencyReply, ContingencyRequest
from common.messages.covariance import CovarianceReply, CovarianceRequest
from common.messages.quantiles import QuantilesReply, QuantilesRequest
from common.stats import anova, contingency, covariance, quantiles
from common.stats.bin_edges import edges_from_moments, edges_from_quantiles, wanted_quantiles
from common.stats.mutual_information import mutual_information
from common.stats.selection import Chosen, decorrelated_k_best, ranking, select_k_best, select_mrmr
from server.phases.base import Phase
from server.phases.form import Form, counts, refused, require_all_cases, training_cases
from server.phases.stability import admitted
from server.state import ALL_SITES, FeatureMoments, Selection, StudyState

__all__ = ["Select", "fixed_selection"]


@dataclass(frozen=True)
class _Progress:
    """search: for the edges; scores: of all features, once known; edges: they were counted over, table: the counts."""

    search: quantiles.Search | None
    edges: Array | None = None
    scores: Array | None = None
    table: Array | None = None


class Select(Phase):
    """All exchanges come from the same sites; their cases must be those that qualified."""

    name: ClassVar[str] = "select"
    fixed_roster: ClassVar[bool] = True

    def request(self, state: StudyState) -> Request | None:
        """The next question of the protocol's method."""
        if state.selection is not None:
            return None
        progress, moments = _progress(state), _moments(state)
        fingerprint, harmoniser = state.protocol.fingerprint(), state.require_harmoniser()
        if progress.scores is not None:
            columns = _candidates(state, progress.scores)
            return CovarianceRequest(
                fingerprint=fingerprint,
                harmoniser=harmoniser,
                names=tuple(state.protocol.radiomics.names()[i] for i in columns),
                mean=moments.radiomics_mean[columns],
                deviation=moments.radiomics_deviation[columns],
            )
        if state.protocol.selection.method == "anova_f":
            return AnovaRequest(fingerprint=fingerprint, harmoniser=harmoniser, mean=moments.radiomics_mean)
        search = progress.search
        if search is not None and not quantiles.finished(search):
            return QuantilesRequest(
                fingerprint=fingerprint, harmoniser=harmoniser, prefix=search.prefix, step=search.step
            )
        return ContingencyRequest(fingerprint=fingerprint, harmoniser=harmoniser, edges=_edges(state, progress))

    def forms(self, state: StudyState, request: Request) -> Mapping[str, Form]:
        """By the features, bins or candidates asked about."""
        features = len(state.protocol.radiomics.names())
        match request:
            case QuantilesRequest():
                return {"counts": counts(*request.prefix.shape, quantiles.DIGITS)}
            case ContingencyRequest():
                return {"counts": counts(features, request.edges.shape[1] + 1, 2)}
            case AnovaRequest():
                squares = Form((features,), positive=True)
                return {"cases": counts(2, dtype="fiu"), "total": Form((2, features)), "squares": squares}
            case CovarianceRequest():
                return {"total": Form((len(request.names), len(request.names)))}
        return {}

    def admit(self, state: StudyState, request: Request, reply: Reply) -> Reply:
        """Of the training cases that qualified, neither more nor fewer."""
        super().admit(state, request, reply)
        match reply:
            case QuantilesReply():
                _require_digits(state, request, reply)
            case ContingencyReply():
                cases = reply.counts.sum(axis=(1, 2), dtype=np.int64)
                if (cases != cases[0]).any():
                    raise refused("reply-cases", "counts", "Features were counted over different cases.")
                require_all_cases(state, reply.site, int(cases[0]), "counts")
            case AnovaReply():
                require_all_cases(state, reply.site, int(reply.cases.sum()), "cases")
            case CovarianceReply():
                require_all_cases(state, reply.site, reply.count, "count")
                if np.diag(reply.total).min(initial=0) < 0:
                    raise refused("reply-negative", "total", "A sum of squares is below zero.")
        return reply

    def fold(self, total: Reply, reply: Reply) -> Reply | None:
        """The quantile search's counts, megabytes from every site, are added."""
        if not isinstance(total, QuantilesReply) or not isinstance(reply, QuantilesReply):
            return None
        return total.model_copy(update={"counts": np.add(total.counts, reply.counts, dtype=np.int64)})

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Narrow the search, score, or choose."""
        progress = _progress(state)
        counted = [reply.counts for reply in replies.values() if isinstance(reply, QuantilesReply)]
        if counted and progress.search is not None:
            together = quantiles.combine(counted)
            _require_ranks(progress.search, together)
            search = quantiles.advance(progress.search, together)
            return state.evolve(scratch=replace(progress, search=search))
        classes = [reply for reply in replies.values() if isinstance(reply, AnovaReply)]
        if classes:
            sums = anova.combine([anova.ClassSums(r.cases, r.total, r.squares) for r in classes])
            return _chosen(state, anova.f_statistic(sums), None)
        pairs = [reply for reply in replies.values() if isinstance(reply, CovarianceReply)]
        if pairs and progress.scores is not None:
            products = covariance.combine([covariance.Products(r.count, r.total) for r in pairs])
            return _choose_among(state, progress, covariance.correlation(products))
        _require_same_cases(state, replies.get(ALL_SITES))
        edges = _edges(state, progress)
        table = contingency.combine([r.counts for r in replies.values() if isinstance(r, ContingencyReply)])
        scores = mutual_information(table)
        if state.protocol.selection.method == "mutual_information":
            return _chosen(state, scores, edges, table=table)
        return state.evolve(scratch=_Progress(progress.search, edges, scores, table))


def fixed_selection(features: int) -> Selection:
    """The paper's nineteen of `features`, chosen before any data were seen; nothing to ask."""
    return Selection(
        signature=PAPER_SIGNATURE,
        scores=np.zeros(features),
        edges=np.zeros((features, 0)),
        ties=(),
    )


def _progress(state: StudyState) -> _Progress:
    if isinstance(state.scratch, _Progress):
        return state.scratch
    selection = state.protocol.selection
    wanted = wanted_quantiles(selection.binning, selection.bins)
    # Of the sites that take part now: one that left since the moments were summed must not be counted.
    cases = sum(sum(state.qualified[site].training_cases) for site in state.taking_part)
    features = len(state.protocol.radiomics.names())
    return _Progress(quantiles.start(features, fractions=wanted, cases=cases) if wanted else None)


def _moments(state: StudyState) -> FeatureMoments:
    if state.moments is None:
        raise ValueError("selection begins after harmonise")
    return state.moments


def _edges(state: StudyState, progress: _Progress) -> Array:
    selection, moments = state.protocol.selection, _moments(state)
    if progress.search is None:
        return edges_from_moments(moments.radiomics_mean, moments.radiomics_deviation, selection.bins)
    return edges_from_quantiles(selection.binning, quantiles.finish(progress.search), selection.bins)


def _require_same_cases(state: StudyState, total: Reply | None) -> None:
    """Edges are quantiles of the cases that qualified; cohorts that changed since would bend them.

    total: of a secure sum.  In the clear `admit` has refused such a site by name; of a sum it could not tell, for a site
    may have been missing.  Here all that take part are in it, for else the phase would have begun again (`fixed_roster`).
    """
    if isinstance(total, ContingencyReply) and int(total.counts[0].sum()) != training_cases(state, ALL_SITES):
        raise WireError(
            "cohort-changed",
            field="training cases",
            site=ALL_SITES,
            problem="In the sum of all sites other training cases were counted than had qualified.",
            fix="Start the study anew in another folder, and leave the cohorts alone while it runs.",
        )


def _require_digits(state: StudyState, request: Request, reply: QuantilesReply) -> None:
    """No rank has more cases than there are; of the first question, which has no prefix yet, each has all."""
    cases = reply.counts.sum(axis=2, dtype=np.int64)
    if cases.max(initial=0) > training_cases(state, reply.site):
        raise refused("reply-cases", "counts", "More cases were counted than had qualified.")
    if isinstance(request, QuantilesRequest) and request.step == 0 and cases.size:
        if (cases != cases.flat[0]).any():
            raise refused("reply-cases", "counts", "Features were counted over different cases.")
        require_all_cases(state, reply.site, int(cases.flat[0]), "counts")


def _require_ranks(search: quantiles.Search, found: Array) -> None:
    """Each order statistic lies among the cases that share its prefix; else a site has answered at random."""
    up_to = search.below + found.sum(axis=2)
    if (np.array(search.ranks) >= up_to).any():
        raise refused("counts-contradict", "counts", "The sites' counts contradict those of the exchange before.")


def _candidates(state: StudyState, scores: Array) -> list[int]:
    """The best features by score, best first."""
    wanted = max(state.protocol.selection.candidates, state.protocol.selection.k)
    stable = admitted(state)
    return [i for i in ranking(state.protocol.radiomics.names(), scores) if stable[i]][:wanted]


def _choose_among(state: StudyState, progress: _Progress, correlation: Array) -> StudyState:
    selection, scores = state.protocol.selection, progress.scores
    if scores is None:
        raise ValueError("candidates come before their correlations")
    columns = _candidates(state, scores)
    names = [state.protocol.radiomics.names()[i] for i in columns]
    if selection.method == "mrmr":
        chosen = select_mrmr(names, scores[columns], correlation, selection.k)
    else:
        limit = selection.largest_correlation
        chosen = decorrelated_k_best(names, scores[columns], correlation, selection.k, limit=limit)
    return _chosen(state, scores, progress.edges, chosen, table=progress.table)


def _chosen(
    state: StudyState,
    scores: Array,
    edges: Array | None,
    chosen: Chosen | None = None,
    *,
    table: Array | None = None,
) -> StudyState:
    """table: the summed one, of which only the smallest cells of the signature are kept."""
    names, stable = state.protocol.radiomics.names(), np.flatnonzero(admitted(state))
    found = chosen or select_k_best([names[i] for i in stable], scores[stable], state.protocol.selection.k)
    counted_over = np.zeros((len(scores), 0)) if edges is None else edges
    selection = Selection(signature=found.names, scores=scores, edges=counted_over, ties=found.ties)
    if table is not None:
        own = table[[names.index(name) for name in found.names]]
        filled = own.sum(axis=2) > 0
        selection = selection.model_copy(
            update={
                "smallest_bin": int(own.sum(axis=2)[filled].min()),
                "one_class_bins": int((filled & (own.min(axis=2) == 0)).sum()),
            }
        )
    return state.evolve(scratch=None, selection=selection)
