"""visual: the U-Net's features of the tumour (METHOD R20-R21)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["BOTTLENECK_CHANNELS", "FLAT_CHANNELS", "SLICE_FACTOR", "VisualSettings"]

BOTTLENECK_CHANNELS = 256
DOWN_SAMPLINGS = 3
FLAT_CHANNELS = 1024
FLAT_DOWN_SAMPLINGS = 4
SLICE_FACTOR = 4
"""A slice is enlarged so many times before the two-dimensional network: 128 voxels become 512 pixels."""


class VisualSettings(Settings):
    """A cube of `crop_voxels` at the protocol's spacing around the tumour, and the bottleneck map of the
    segmentation network on it.

    variant: `bottleneck` is the whole map, flattened in C order (the paper's length at 128 voxels);
        `unet2d` the deepest map of a two-dimensional network on the axial slice with most tumour, 1024 x 32 x 32 at 128
        voxels, the same length; `pooled` the mean of each of the cube's channels; `random_projection` 256 fixed random
        mixtures of the whole map; `none` a single zero, for studies on radiomics alone and for sites that bring a table.
        Only the small ones may be combined with differential privacy (R49).
    sequences: what the network sees; the other channel is zero (ablations of METHOD section 4).
    projection_seed: names the mixtures; the same at every site.
    flat_weights: of the two-dimensional network, a file under client/segment/weights.
    channels: of the network's deepest map; the protocol refuses another number than that of segmentation.network.
    outside: voxels of the cube outside the mask are `kept` or `zeroed`.
    dtype: how the features lie on the site's disk; `float16` halves them and rounds to 3 digits.
    """

    variant: Literal["bottleneck", "unet2d", "pooled", "random_projection", "none"] = "bottleneck"
    crop_voxels: Annotated[int, Field(ge=16, le=256, multiple_of=8)] = 128
    sequences: tuple[Literal["T1CE", "FLAIR"], ...] = ("T1CE", "FLAIR")
    channels: Annotated[int, Field(ge=2, le=1024)] = BOTTLENECK_CHANNELS
    outside: Literal["kept", "zeroed"] = "kept"
    flat_weights: str = "synthetic-2d-v1"
    projection_seed: Annotated[int, Field(ge=0)] = 20240604
    dtype: Literal["float32", "float16"] = "float16"

    @property
    def map_channels(self) -> int:
        """Channels of the map that is taken."""
        return FLAT_CHANNELS if self.variant == "unet2d" else self.channels

    @property
    def length(self) -> int:
        """Number of visual features: channels x (crop / 8)^3 or 1024 x (crop / 4)^2, both 1,048,576 for 128 voxels and
        256 channels; 256 for the projection, the channels for `pooled`.
        """
        if self.variant == "none":
            return 1
        if self.variant == "unet2d":
            edge = self.crop_voxels * SLICE_FACTOR >> FLAT_DOWN_SAMPLINGS
            return FLAT_CHANNELS * edge * edge
        if self.variant == "random_projection":
            return BOTTLENECK_CHANNELS
        if self.variant == "pooled":
            return self.channels
        edge = self.crop_voxels >> DOWN_SAMPLINGS
        return self.channels * edge * edge * edge
