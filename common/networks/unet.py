"""unet: the segmentation network, whose deepest map is also the visual features (METHOD R17, R21).

MONAI's plain U-Net with two input channels (T1CE, FLAIR).  In three dimensions it has 32-64-128-256 channels and three
down-samplings: the deepest map of a 128^3 cube is 256 x 16^3 = 1,048,576 values.  In two dimensions it has four
down-samplings to 1024 channels, as Ronneberger et al. 2015: the deepest map of a 512^2 slice is 1024 x 32^2 = 1,048,576
values; the upper levels are narrower than theirs, so that the weights stay at 4 MB.  Instance normalisation, so that
nothing is learned from private data by merely looking at them.
"""

from __future__ import annotations

from typing import Literal

from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets import UNet
from torch import Tensor, nn

__all__ = ["CHANNELS", "Dimensions", "build_unet", "deepest_map"]

Dimensions = Literal[2, 3]
CHANNELS: dict[Dimensions, tuple[int, ...]] = {3: (32, 64, 128, 256), 2: (16, 32, 64, 128, 1024)}


def build_unet(dimensions: Dimensions = 3) -> nn.Module:
    """Input (cases, 2, z, y, x) with edges divisible by 8, or (cases, 2, y, x) divisible by 16; output one logit per
    voxel.
    """
    channels = CHANNELS[dimensions]
    network: nn.Module = UNet(
        spatial_dims=dimensions,
        in_channels=2,
        out_channels=1,
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        norm="INSTANCE",
    )
    return network


def deepest_map(network: nn.Module, volume: Tensor) -> Tensor:
    """(cases, 256, z/8, y/8, x/8) or (cases, 1024, y/16, x/16): the output of the lowest layer; the decoder is not run."""
    block = network.get_submodule("model")
    while isinstance(skip := getattr(block, "1", None), SkipConnection):
        volume = block.get_submodule("0")(volume)
        block = skip.get_submodule("submodule")
    deepest: Tensor = block(volume)
    return deepest
