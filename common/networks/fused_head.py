"""fused_head: visual features -> hidden, ++ radiomics -> two logits (METHOD R28-R32).

10,485,770 + 60 parameters for 1,048,576 visual features, 10 hidden units and 19 radiomics features.
Both sides build it from the same settings; the first weights come from the study's seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.config.modelling import HeadSettings, Relu
from common.seeds import stream

__all__ = ["CLASSES", "FusedHead", "fused_logits", "initial_weights"]

CLASSES = ("altered", "not_altered")
"""Order of the logits.  Safety score = softmax[1] = sigmoid(logit[1] - logit[0])."""


class FusedHead(nn.Module):
    """`forward(visual, radiomics)`: (cases, visual), (cases, radiomics) -> logits (cases, 2).

    Inputs are standardised; visual features are also divided by the square root of their number, so
    that a case's visual vector has length about one whatever the size of the map.
    """

    def __init__(self, visual: int, radiomics: int, settings: HeadSettings) -> None:
        super().__init__()
        self.relu = settings.relu
        # torch would draw 10 M random numbers that the study's own weights replace at once.
        with torch.device("meta"):
            self.visual = nn.Linear(visual, settings.hidden)
            self.fusion = nn.Linear(settings.hidden + radiomics, len(CLASSES))
        self.to_empty(device="cpu")

    def forward(self, visual: Tensor, radiomics: Tensor) -> Tensor:
        """Logits, in the order of CLASSES."""
        # Through the layer itself: gradients of single cases are taken where it is called (client/training/private.py).
        return _logits(self.visual(visual), radiomics, self.fusion, self.relu)


def fused_logits(hidden: Tensor, radiomics: Tensor, weight: Tensor, bias: Tensor, relu: Relu) -> Tensor:
    """The head after its big layer: (cases, hidden), (cases, radiomics) -> logits (cases, 2)."""
    return _logits(hidden, radiomics, lambda fused: nn.functional.linear(fused, weight, bias), relu)


def _logits(hidden: Tensor, radiomics: Tensor, last: Callable[[Tensor], Tensor], relu: Relu) -> Tensor:
    if relu == "visual":
        hidden = torch.relu(hidden)
    logits = last(torch.cat([hidden, radiomics], dim=1))
    return torch.relu(logits) if relu == "paper_literal" else logits


def initial_weights(
    visual: int, radiomics: int, settings: HeadSettings, *, seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """First weights, uniform in +-1/sqrt(fan-in) as torch's Linear, from the study's seed; float32, read-only."""
    return dict(_first(visual, radiomics, settings.hidden, seed))


@lru_cache(maxsize=1)  # every round of a study begins with them, and ten million draws take a tenth of a second
def _first(visual: int, radiomics: int, hidden: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = stream(seed, "initial-weights")
    fused = hidden + radiomics
    shapes = {
        "visual.weight": ((hidden, visual), visual),
        "visual.bias": ((hidden,), visual),
        "fusion.weight": ((len(CLASSES), fused), fused),
        "fusion.bias": ((len(CLASSES),), fused),
    }
    weights = {
        name: rng.uniform(-1 / math.sqrt(fan), 1 / math.sqrt(fan), shape).astype(np.float32)
        for name, (shape, fan) in shapes.items()
    }
    for array in weights.values():
        array.setflags(write=False)
    return weights
