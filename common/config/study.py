"""study: what the coordinator knows: the protocol and who is expected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["StudySettings", "Trains"]

Trains = Literal["classifier", "segmentation"]

SiteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class StudySettings(Settings):
    """The coordinator's file.  Relative paths start at the folder of the file itself.

    sites: every hospital that is expected; each is named in every round, whether it answers or not.
    trains: the fused classifier, or the segmentation network (from scratch, as segmentation.training says).
    join_timeout_s: how long to wait for them before the first phase.
    rejoin_timeout_s: how long a round waits for a site that was lost in it (a deployment only); within it the site
        comes back to the same round.  `federation.timeout_s` of the protocol ends the round in any case.
    start: a released model to go on from: a version's folder, or a folder of releases, whose current version is meant.
        Harmonisation, standardisation and signature are then the release's, and training starts from its weights.
    replaces: the study that this one repeats, for instance without a site.
    """

    schema_version: Literal[1] = 1
    name: SiteName
    protocol: Path
    sites: Annotated[tuple[SiteName, ...], Field(min_length=1)]
    trains: Trains = "classifier"
    join_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    start: Path | None = None
    replaces: str = ""
    rejoin_timeout_s: Annotated[float, Field(ge=0)] = 300.0
