"""visual: the U-Net's features of the tumour (METHOD R20-R21)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["VisualSettings"]

BOTTLENECK_CHANNELS = 256
DOWN_SAMPLINGS = 3


class VisualSettings(Settings):
    """A cube of `crop_voxels` at the protocol's spacing around the tumour, and the bottleneck map of the
    segmentation network on it, flattened in C order.

    outside: voxels of the cube outside the mask are `kept` or `zeroed`.
    dtype: how the map lies on the site's disk; `float16` halves it.
    """

    crop_voxels: Annotated[int, Field(ge=16, le=256, multiple_of=8)] = 128
    outside: Literal["kept", "zeroed"] = "kept"
    dtype: Literal["float32", "float16"] = "float16"

    @property
    def length(self) -> int:
        """Number of visual features: 256 x (crop / 8)^3, 1,048,576 for 128 voxels."""
        edge = self.crop_voxels >> DOWN_SAMPLINGS
        return BOTTLENECK_CHANNELS * edge * edge * edge
