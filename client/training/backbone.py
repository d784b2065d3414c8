"""backbone: the segmentation network's encoder as a part of the classifier, where it learns with the head end to end
(training.encoder_rate; METHOD R35).

A case's cube goes through the encoder in every step, and the classifier's gradient flows back into it.  The weights
that travel are the encoder's change since the protocol's network (common/networks/first_weights.py); features are
standardised by the study's moments of the frozen network, which stay.

Cost: a pass through the encoder and back for every case and step, where the frozen study reads a Gram matrix; measured
in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from client.visual_maps import VisualMaps
from common.networks.first_weights import ENCODER
from common.networks.segmentation_network import deepest_map

__all__ = ["Backbone", "encoder_part"]

Weights = Mapping[str, np.ndarray[Any, Any]]


class _Deepest(nn.Module):
    """The network's lowest layer as its output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, volume: Tensor) -> Tensor:
        return deepest_map(self.network, volume)


@dataclass(frozen=True)
class Backbone:
    """network: the protocol's, this object's alone (its weights are swapped while it runs); cubes: of the cases, (2, edge, edge, edge) each; pooled: means of channels."""

    network: nn.Module
    cubes: tuple[np.ndarray[Any, Any], ...]
    pooled: bool
    device: str = "cpu"

    def take(self, cases: list[int]) -> Backbone:
        """Only these cases, in this order."""
        return Backbone(self.network, tuple(self.cubes[i] for i in cases), self.pooled, self.device)

    def offsets(self, weights: Weights, precision: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The encoder's change as leaves that can learn."""
        return {
            name: torch.from_numpy(np.array(array)).to(self.device, precision).requires_grad_()
            for name, array in encoder_part(weights).items()
        }

    def features(self, offsets: Mapping[str, Tensor], cases: Tensor) -> Tensor:
        """(cases, length), raw, as they would be stored; C order of channel, z, y, x."""
        own = dict(self.network.named_parameters())
        tuned = {}
        for key, offset in offsets.items():
            name = key.removeprefix(ENCODER)
            tuned[f"network.{name}"] = own[name].detach().to(offset.dtype) + offset
        kind = next(iter(tuned.values())).dtype
        cubes = torch.from_numpy(np.stack([self.cubes[int(i)] for i in cases])).to(self.device, kind)
        deepest: Tensor = functional_call(_Deepest(self.network), tuned, (cubes,))
        return deepest.mean(dim=(2, 3, 4)) if self.pooled else deepest.flatten(1)

    def maps(self, weights: Weights) -> VisualMaps:
        """All cases' features by this model's encoder: cases x length x 4 bytes in memory."""
        offsets = self.offsets(weights)
        with torch.no_grad():
            rows = [self.features(offsets, torch.tensor([i]))[0].cpu().numpy() for i in range(len(self.cubes))]
        return VisualMaps.of(np.stack(rows))


def encoder_part(weights: Weights) -> dict[str, np.ndarray[Any, Any]]:
    """The encoder's arrays; empty where it is frozen."""
    return {name: array for name, array in weights.items() if name.startswith(ENCODER)}
