"""segmentation: where the whole-tumour mask comes from (METHOD R17-R19)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["SegmentationSettings"]


class SegmentationSettings(Settings):
    """source: `network` runs the U-Net; `imported` takes the manifest's masks (reader-corrected, or the
    true masks of a synthetic cohort).

    weights: name of a weights file under client/segment/weights, checked by `weights_sha256` when given.
    review: `required` lets only masks that a reader accepted into features and a study; with `not_required`
        automatic masks may enter (a replay on synthetic data).
    second_reader_fraction: share of the cases that two readers see (R18).
    working_mm: voxel size the network was trained at; the probability map, not the mask, is resampled.
    """

    source: Literal["network", "imported"] = "network"
    review: Literal["not_required", "required"] = "not_required"
    second_reader_fraction: Annotated[float, Field(ge=0, le=1)] = 0.15
    weights: str = "synthetic-v1"
    weights_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    working_mm: Annotated[float, Field(gt=0, le=5)] = 2.0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    smallest_component_ml: Annotated[float, Field(ge=0)] = 0.3
