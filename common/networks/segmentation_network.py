"""segmentation_network: the family of networks that draw the whole tumour from T1CE and FLAIR (METHOD R17, R21).

Whatever the network inside, it takes the pair (T1CE, FLAIR) and gives one logit per voxel; its deepest map is the
visual features.  Both sides build it from the protocol, and a study's first weights come from its seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.networks.nets import SegResNet, UNet
from torch import Tensor, nn

from common.config.segmentation import NetworkSettings, UNetSettings
from common.networks.unet import deepest_map as deepest_unet_map
from common.seeds import stream_seed

__all__ = ["SegmentationNetwork", "as_arrays", "build_core", "deepest_map", "first_weights"]

Arrays = dict[str, np.ndarray[Any, Any]]


class SegmentationNetwork(nn.Module):
    """`forward(pair)`: (cases, 2, z, y, x) of T1CE and FLAIR, edges divisible by 8 -> (cases, 1, z, y, x) logits.

    Sequences that the study does not have are zero, as if a brain were black in them.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.core = build_core(settings)
        self._inputs = settings.inputs
        self._output = 0 if isinstance(settings, UNetSettings) else settings.whole_tumour

    def forward(self, pair: Tensor) -> Tensor:
        """Logits of the whole tumour."""
        logits: Tensor = self.core(self._arranged(pair))
        return logits[:, self._output : self._output + 1]

    def deepest(self, pair: Tensor) -> Tensor:
        """(cases, channels, z/8, y/8, x/8): the output of the lowest layer; the decoder is not run."""
        arranged = self._arranged(pair)
        if isinstance(self.core, SegResNet):
            deepest: Tensor = self.core.encode(arranged)[0]
            return deepest
        return deepest_unet_map(self.core, arranged)

    def _arranged(self, pair: Tensor) -> Tensor:
        known = dict(zip(("t1ce", "flair"), pair.unbind(1), strict=True))
        nothing = torch.zeros_like(pair[:, 0])
        return torch.stack([known.get(name, nothing) for name in self._inputs], dim=1)


def build_core(settings: NetworkSettings) -> nn.Module:
    """The network inside, with MONAI's own names of its weights."""
    if isinstance(settings, UNetSettings):
        unet: nn.Module = UNet(
            spatial_dims=3,
            in_channels=len(settings.inputs),
            out_channels=1,
            channels=settings.channels,
            strides=(2, 2, 2),
            num_res_units=settings.residual_units,
            norm="INSTANCE",
        )
        return unet
    segresnet: nn.Module = SegResNet(
        spatial_dims=3,
        init_filters=settings.init_filters,
        in_channels=len(settings.inputs),
        out_channels=settings.outputs,
        blocks_down=settings.blocks_down,
        blocks_up=settings.blocks_up,
        dropout_prob=0.2,  # as the bundle; nothing in evaluation
    )
    return segresnet


def deepest_map(network: nn.Module, pair: Tensor) -> Tensor:
    """The visual map of (cases, 2, z, y, x)."""
    return network.deepest(pair) if isinstance(network, SegmentationNetwork) else deepest_unet_map(network, pair)


def first_weights(settings: NetworkSettings, *, seed: int) -> Arrays:
    """MONAI's own first weights drawn from the study's seed, float32, by name; torch's global stream is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "segmenter", "first-weights"))
        return as_arrays(build_core(settings).state_dict())


def as_arrays(weights: Mapping[str, Tensor]) -> Arrays:
    """Copies in float32."""
    return {name: value.detach().cpu().numpy().astype(np.float32, copy=True) for name, value in weights.items()}
