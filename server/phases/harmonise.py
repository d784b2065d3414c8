"""harmonise: scanner effects out (where the protocol says so), then pooled mean and standard deviation of every
feature, from sums alone (R24, R45).

    combat     shared  sums of scanners that several sites use      only where there are any
               products  cross-products -> location and scale
    moments    sums -> mean;  squares about it -> deviation; with noise where the protocol wants statistics private
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from common.config.harmonisation import HarmonisationSettings
from common.config.privacy import StatisticsSettings
from common.errors import ConfigError
from common.messages.base import Array, Reply, Request
from common.messages.combat import CombatReply, CombatRequest
from common.messages.harmoniser import Harmoniser
from common.messages.moments import MomentsReply, MomentsRequest
from common.stats.bounded_moments import finish_bounded, references
from common.stats.combat import (
    BatchSums,
    CrossProducts,
    combine_batch_sums,
    combine_cross_products,
    fit_location,
    fit_shared_batches,
)
from common.stats.moments import Moments, Squares, Sums, combine_squares, combine_sums, finish
from server.phases.base import Phase
from server.phases.form import LARGEST_VISUAL, Form, check_forms, counts, refused, require_all_cases, require_some_cases
from server.state import FeatureMoments, StudyState

__all__ = ["Harmonise", "feature_moments"]


@dataclass(frozen=True)
class _Progress:
    """What the exchanges so far have told; None where they have not."""

    shared: BatchSums | None = None
    harmoniser: Harmoniser | None = None
    radiomics: Sums | None = None
    visual: Sums | None = None


class Harmonise(Phase):
    """Two exchanges for the moments (1e-12 of pooled); one or two before them for ComBat (1e-10 of pooled)."""

    name: ClassVar[str] = "harmonise"
    fixed_roster: ClassVar[bool] = True

    def request(self, state: StudyState) -> Request | None:
        """ComBat's sums, then sums, then squares."""
        if state.moments is not None:
            return None
        progress, fingerprint = _progress(state), state.protocol.fingerprint()
        harmoniser = progress.harmoniser
        if harmoniser is None:
            return _ask_combat(state, progress, fingerprint)
        if progress.radiomics is None or progress.visual is None:
            return MomentsRequest(
                fingerprint=fingerprint, study=state.study, harmoniser=harmoniser, signature=_signature(state)
            )
        return MomentsRequest(
            fingerprint=fingerprint,
            study=state.study,
            harmoniser=harmoniser,
            signature=_signature(state),
            radiomics_mean=_mean(progress.radiomics),
            visual_mean=_mean(progress.visual),
        )

    def forms(self, state: StudyState, request: Request) -> Mapping[str, Form]:
        """One number per feature; for ComBat one row per scanner told apart."""
        features = len(state.protocol.radiomics.names())
        if isinstance(request, MomentsRequest):
            squares = request.radiomics_mean is not None and _statistics(state) is None
            visual = Form((state.protocol.visual.length,), positive=squares, largest=LARGEST_VISUAL)
            return {"radiomics": Form((features,), positive=squares), "visual": visual}
        return {}

    def admit(self, state: StudyState, request: Request, reply: Reply) -> Reply:
        """Of the training cases that qualified."""
        super().admit(state, request, reply)
        if isinstance(reply, MomentsReply):
            require_all_cases(state, reply.site, reply.count, "count")
        if isinstance(reply, CombatReply) and isinstance(request, CombatRequest):
            _require_scanners(state, request, reply)
        return reply

    def fold(self, total: Reply, reply: Reply) -> Reply | None:
        """Moments are added; ComBat's products are wanted one by one."""
        if not isinstance(total, MomentsReply) or not isinstance(reply, MomentsReply):
            return None
        return total.model_copy(
            update={
                "count": total.count + reply.count,
                "radiomics": total.radiomics + reply.radiomics,
                "visual": total.visual + reply.visual,
            }
        )

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Add the sites' sums in the order of their names."""
        progress = _progress(state)
        combat = [reply for reply in replies.values() if isinstance(reply, CombatReply)]
        if combat:
            return state.evolve(scratch=_conclude_combat(state, progress, combat))
        parts = [reply for reply in replies.values() if isinstance(reply, MomentsReply)]
        if progress.radiomics is None or progress.visual is None:
            radiomics_sums = combine_sums([Sums(p.count, p.radiomics) for p in parts])
            visual_sums = combine_sums([Sums(p.count, p.visual) for p in parts])
            return state.evolve(scratch=replace(progress, radiomics=radiomics_sums, visual=visual_sums))
        moments = _finished(
            state,
            (progress.radiomics, combine_squares([Squares(p.count, p.radiomics) for p in parts])),
            (progress.visual, combine_squares([Squares(p.count, p.visual) for p in parts])),
        )
        return state.evolve(scratch=None, harmoniser=progress.harmoniser, moments=moments)


def _statistics(state: StudyState) -> StatisticsSettings | None:
    """Where they are private."""
    return state.protocol.privacy.statistics


def _signature(state: StudyState) -> tuple[str, ...]:
    """Chosen before anything is summed, where statistics are private."""
    return () if _statistics(state) is None or state.selection is None else state.selection.signature


def _finished(state: StudyState, radiomics: tuple[Sums, Squares], visual: tuple[Sums, Squares]) -> FeatureMoments:
    """Without noise, or with it: then nothing is known of features outside the signature, and nothing asks."""
    settings = _statistics(state)
    if settings is None:
        return feature_moments(finish(*radiomics), finish(*visual))
    names, (sums, squares) = state.protocol.radiomics.names(), radiomics
    signature = _signature(state)
    columns = [names.index(name) for name in signature]
    scale, visual_scale = references(settings, signature)
    own = finish_bounded(Sums(sums.count, sums.total[columns]), Squares(sums.count, squares.total[columns]), scale)
    mean, deviation = np.zeros(len(names)), np.ones(len(names))
    mean[columns], deviation[columns] = own.mean, own.deviation
    seen = finish(*visual) if visual_scale is None else finish_bounded(*visual, visual_scale)
    return feature_moments(Moments(sums.count, mean, deviation), seen)


def feature_moments(radiomics: Moments, visual: Moments) -> FeatureMoments:
    """As they travel: radiomics in float64, the many visual ones in float32."""
    return FeatureMoments(
        cases=radiomics.count,
        radiomics_mean=radiomics.mean,
        radiomics_deviation=radiomics.deviation,
        visual_mean=visual.mean.astype(np.float32),
        visual_deviation=visual.deviation.astype(np.float32),
    )


def _progress(state: StudyState) -> _Progress:
    if isinstance(state.scratch, _Progress):
        return state.scratch
    method = state.protocol.harmonisation.method
    return _Progress(harmoniser=None if method == "combat" else Harmoniser(method=method))


def _shared_batches(state: StudyState) -> tuple[str, ...]:
    """Scanners that more than one of the sites taking part uses."""
    owners = Counter(batch for site in state.taking_part for batch in state.qualified[site].batches)
    return tuple(sorted(batch for batch, sites in owners.items() if sites > 1))


def _ask_combat(state: StudyState, progress: _Progress, fingerprint: str) -> CombatRequest:
    shared = _shared_batches(state)
    sums, nothing = progress.shared, np.zeros((0, 0))
    if shared and sums is None:
        return CombatRequest(fingerprint=fingerprint, ask="shared", shared=shared, features=nothing, covariates=nothing)
    return CombatRequest(
        fingerprint=fingerprint,
        ask="products",
        shared=shared,
        features=nothing if sums is None else sums.features / sums.cases[:, None],
        covariates=nothing if sums is None else sums.covariates / sums.cases[:, None],
    )


def _require_scanners(state: StudyState, request: CombatRequest, reply: CombatReply) -> None:
    """The scanners asked about, and sums of the right size for each; products also for all of the site's together."""
    settings = state.protocol.harmonisation
    p, q, products = len(state.protocol.radiomics.names()), len(settings.covariates), request.ask == "products"
    own = set(state.qualified[reply.site].batches)
    told = sorted(own & {*request.shared, settings.reference_batch}) if products else request.shared
    if tuple(told) != reply.apart:
        raise refused("reply-scanners", "apart", "Other scanners are told apart than those asked about.")
    rows, nothing = len(told) + products, Form((0,))
    forms = {
        "cases": counts(rows, dtype="f"),
        "features": Form((rows, p)),
        "covariates": Form((rows, q)),
        "cc": Form((rows, q, q)) if products else nothing,
        "cy": Form((rows, q, p)) if products else nothing,
        "yy": Form((rows, p), positive=True) if products else nothing,
    }
    check_forms(reply, forms)
    if products:
        require_all_cases(state, reply.site, int(reply.cases[0]), "cases")
    elif reply.cases.any():
        require_some_cases(state, reply.site, int(reply.cases.sum()), "cases")


def _conclude_combat(state: StudyState, progress: _Progress, replies: Sequence[CombatReply]) -> _Progress:
    shared, settings = _shared_batches(state), state.protocol.harmonisation
    sums = progress.shared
    if shared and sums is None:
        return replace(
            progress, shared=combine_batch_sums([BatchSums(r.cases, r.features, r.covariates) for r in replies])
        )
    total = combine_cross_products([_row(reply, 0) for reply in replies])
    apart = {
        name: combine_cross_products([_row(r, 1 + r.apart.index(name)) for r in replies if name in r.apart])
        for name in sorted({name for reply in replies for name in reply.apart})
    }
    location = fit_location(total, tuple(settings.covariates), reference=_reference(settings, apart))
    fitted = [] if sums is None else fit_shared_batches(sums, [apart[name] for name in shared], location, settings)
    shifts = {n: s for n, s in zip(shared, fitted, strict=True) if n != settings.reference_batch}
    return replace(progress, harmoniser=Harmoniser.combat(location, shifts))


def _reference(settings: HarmonisationSettings, apart: Mapping[str, CrossProducts]) -> CrossProducts | None:
    if not settings.reference_batch:
        return None
    if settings.reference_batch not in apart:
        raise ConfigError(
            "reference-batch-absent",
            field="harmonisation.reference_batch",
            problem="No site has training cases of the reference batch.",
            fix="Name a batch that a site has, or leave it empty.",
        )
    return apart[settings.reference_batch]


def _row(reply: CombatReply, row: int) -> CrossProducts:
    return CrossProducts(
        float(reply.cases[row]), reply.features[row], reply.covariates[row], reply.cc[row], reply.cy[row], reply.yy[row]
    )


def _mean(sums: Sums) -> Array:
    return sums.total / sums.count
