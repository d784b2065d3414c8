"""unet: the segmentation network, whose deepest map is also the visual features (METHOD R17, R21).

MONAI's plain U-Net with two input channels (T1CE, FLAIR), 32-64-128-256 channels and three down-samplings:
the deepest map of a 128^3 cube is 256 x 16^3 = 1,048,576 values.  Instance normalisation, so that nothing
is learned from private data by merely looking at them.
"""

from __future__ import annotations

from monai.networks.nets import UNet
from torch import Tensor, nn

__all__ = ["CHANNELS", "build_unet", "deepest_map"]

CHANNELS = (32, 64, 128, 256)


def build_unet() -> nn.Module:
    """Input (cases, 2, z, y, x) with edges divisible by 8; output one logit per voxel."""
    network: nn.Module = UNet(
        spatial_dims=3, in_channels=2, out_channels=1, channels=CHANNELS, strides=(2, 2, 2), norm="INSTANCE"
    )
    return network


def deepest_map(network: nn.Module, volume: Tensor) -> Tensor:
    """(cases, 256, z/8, y/8, x/8): the output of the lowest layer; the decoder is not run."""
    block = network.get_submodule("model")
    for _ in CHANNELS[:-1]:
        down, skip = block.get_submodule("0"), block.get_submodule("1")
        volume = down(volume)
        block = skip.get_submodule("submodule")
    deepest: Tensor = block(volume)
    return deepest
