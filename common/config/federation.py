"""federation: who must answer, by when, and how the model is judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["EvaluationSettings", "FederationSettings"]


class FederationSettings(Settings):
    """min_sites: fewest sites whose sum may be opened; with fewer the study stops with a checkpoint.
    min_cases: fewest training cases of a site that may take part.
    timeout_s: how long one exchange may take; a later reply is named and dropped.
    secure_aggregation: whatever adds up over sites is masked, so that the server reads sums only
        (common/privacy/secure_sum.py); needs at least 3 sites.
    site_keys: of each site the identity that `fedmidline-site identity` prints; only these are believed.
    """

    min_sites: Annotated[int, Field(ge=1)] = 2
    min_cases: Annotated[int, Field(ge=2)] = 10
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    secure_aggregation: bool = False
    site_keys: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)


class EvaluationSettings(Settings):
    """threshold: safety score below which a case is called altered (R33).
    score_cells: cells of the score histogram, even in the logit, that a site sends instead of scores.
    auc: `binned` with a guaranteed bound; `exact` by a search that gives away the whole ROC curve of the pooled
        test cases, which the consortium then agrees to.
    bootstrap: resamples of the stratified percentile interval (R40).
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    score_cells: Annotated[int, Field(ge=16, le=4096, multiple_of=2)] = 256
    auc: Literal["binned", "exact"] = "binned"
    bootstrap: Annotated[int, Field(ge=100)] = 2000
