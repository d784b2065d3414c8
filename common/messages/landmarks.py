"""landmarks: what a site's brains have for percentiles, before a study that normalises by Nyul's method.

A file that a person hands over (docs/decisions/0017-landmarks-before-the-study.md); no request asks for it.

Leaves the site: its name, a fingerprint of the preprocessing, the number of its training cases (at least `min_cases`),
and per sequence the sums over them of eleven percentiles of the brain's intensities on a scale from 0 to 100.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.messages.base import Reply
from common.stats.landmarks import NAMES

__all__ = ["LandmarksReply"]


class LandmarksReply(Reply):
    """preparation: of the settings the percentiles were measured with; total: in the order of `NAMES`."""

    preparation: str
    cases: Annotated[int, Field(ge=2)]
    total: Annotated[tuple[float, ...], Field(min_length=len(NAMES), max_length=len(NAMES))]
