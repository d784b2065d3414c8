"""model: the fused classifier and all it needs to score a case, as it travels in every message."""

from __future__ import annotations

from common.messages.base import Array, Arrays, Message
from common.messages.harmoniser import Harmoniser

__all__ = ["ModelState"]


class ModelState(Message):
    """harmoniser: what the radiomics features go through first.
    weights: the head's arrays by name, float32.
    signature: selected radiomics features, in order.
    radiomics_mean, radiomics_deviation: of the signature, float64.
    visual_mean, visual_deviation: float32; standardised visual features are divided by the square
    root of their number.
    """

    harmoniser: Harmoniser
    weights: Arrays
    signature: tuple[str, ...]
    radiomics_mean: Array
    radiomics_deviation: Array
    visual_mean: Array
    visual_deviation: Array
