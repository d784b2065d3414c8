"""first_weights: what a study's training starts from; both sides draw it from the protocol, so it need not travel.

Where the encoder learns, its arrays are `encoder.NAME`: the change since the protocol's segmentation network, zero at
first.  So the server needs no network's numbers, only its shapes, and weight decay pulls back to where the encoder
came from (L2-SP: Li et al. 2018, arXiv 1802.01483).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from common.config.protocol import Protocol
from common.config.segmentation import NetworkSettings
from common.networks.fused_head import initial_weights
from common.networks.segmentation_network import SegmentationNetwork

__all__ = ["ENCODER", "encoder_shapes", "first_weights"]

ENCODER = "encoder."
SMALLEST = 16
"""Edge of a cube that the encoder takes."""


def first_weights(protocol: Protocol, signature: int) -> dict[str, np.ndarray[Any, Any]]:
    """float32, by name; signature: how many radiomics features enter the head."""
    head = initial_weights(protocol.visual.length, signature, protocol.head, seed=protocol.seed)
    if not protocol.training.encoder_rate:
        return head
    shapes = encoder_shapes(protocol.segmentation.network)
    return {**head, **{f"{ENCODER}{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}}


@lru_cache(maxsize=1)
def encoder_shapes(settings: NetworkSettings) -> dict[str, tuple[int, ...]]:
    """The segmentation network's weights that its deepest map depends on, found by a backward pass."""
    network = SegmentationNetwork(settings)
    network.deepest(torch.ones(1, 2, SMALLEST, SMALLEST, SMALLEST)).sum().backward()
    return {name: tuple(value.shape) for name, value in network.named_parameters() if value.grad is not None}
