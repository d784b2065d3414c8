"""harmonise: pooled mean and standard deviation of every feature, from sums alone (R24, R45)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from common.messages.base import Array, Reply
from common.messages.moments import MomentsReply, MomentsRequest
from common.stats.moments import Moments, Squares, Sums, combine_squares, combine_sums, finish
from server.state import FeatureMoments, StudyState

__all__ = ["Harmonise"]


@dataclass(frozen=True)
class _Totals:
    radiomics: Sums
    visual: Sums


class Harmonise:
    """Two exchanges: sums, then squares about the pooled mean; equal to pooled to 1e-12 (two passes)."""

    name: ClassVar[str] = "harmonise"
    fixed_roster: ClassVar[bool] = True

    def request(self, state: StudyState) -> MomentsRequest | None:
        """Sums first, then squares."""
        if state.moments is not None:
            return None
        fingerprint = state.protocol.fingerprint()
        totals = state.scratch
        if not isinstance(totals, _Totals):
            return MomentsRequest(fingerprint=fingerprint)
        return MomentsRequest(
            fingerprint=fingerprint,
            radiomics_mean=_mean(totals.radiomics),
            visual_mean=_mean(totals.visual),
        )

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Add the sites' sums in the order of their names."""
        parts = [reply for reply in replies.values() if isinstance(reply, MomentsReply)]
        totals = state.scratch
        if not isinstance(totals, _Totals):
            return state.evolve(
                scratch=_Totals(
                    radiomics=combine_sums([Sums(p.count, p.radiomics) for p in parts]),
                    visual=combine_sums([Sums(p.count, p.visual) for p in parts]),
                )
            )
        radiomics = finish(totals.radiomics, combine_squares([Squares(p.count, p.radiomics) for p in parts]))
        visual = finish(totals.visual, combine_squares([Squares(p.count, p.visual) for p in parts]))
        return state.evolve(scratch=None, moments=feature_moments(radiomics, visual))


def feature_moments(radiomics: Moments, visual: Moments) -> FeatureMoments:
    """As they travel: radiomics in float64, the many visual ones in float32."""
    return FeatureMoments(
        cases=radiomics.count,
        radiomics_mean=radiomics.mean,
        radiomics_deviation=radiomics.deviation,
        visual_mean=visual.mean.astype(np.float32),
        visual_deviation=visual.deviation.astype(np.float32),
    )


def _mean(sums: Sums) -> Array:
    return sums.total / sums.count
