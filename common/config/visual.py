"""visual: the U-Net's features of the tumour (METHOD R20-R21)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["BOTTLENECK_CHANNELS", "VisualSettings"]

BOTTLENECK_CHANNELS = 256
DOWN_SAMPLINGS = 3


class VisualSettings(Settings):
    """A cube of `crop_voxels` at the protocol's spacing around the tumour, and the bottleneck map of the
    segmentation network on it.

    variant: `bottleneck` is the whole map, flattened in C order (the paper's length at 128 voxels);
        `pooled` the mean of each of its channels; `random_projection` 256 fixed random mixtures of the
        whole map; `none` a single zero, for studies on radiomics alone and for sites that bring a table.  Only the
        small ones may be combined with differential privacy (R49).
    projection_seed: names the mixtures; the same at every site.
    channels: of the network's deepest map; the protocol refuses another number than that of segmentation.network.
    outside: voxels of the cube outside the mask are `kept` or `zeroed`.
    dtype: how the features lie on the site's disk; `float16` halves them and rounds to 3 digits.
    """

    variant: Literal["bottleneck", "pooled", "random_projection", "none"] = "bottleneck"
    crop_voxels: Annotated[int, Field(ge=16, le=256, multiple_of=8)] = 128
    channels: Annotated[int, Field(ge=2, le=1024)] = BOTTLENECK_CHANNELS
    outside: Literal["kept", "zeroed"] = "kept"
    projection_seed: Annotated[int, Field(ge=0)] = 20240604
    dtype: Literal["float32", "float16"] = "float16"

    @property
    def length(self) -> int:
        """Number of visual features: channels x (crop / 8)^3, 1,048,576 for 128 voxels and 256 channels; 256 for the
        projection, the channels for `pooled`.
        """
        if self.variant == "none":
            return 1
        if self.variant == "random_projection":
            return BOTTLENECK_CHANNELS
        if self.variant == "pooled":
            return self.channels
        edge = self.crop_voxels >> DOWN_SAMPLINGS
        return self.channels * edge * edge * edge
