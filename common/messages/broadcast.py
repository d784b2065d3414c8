"""broadcast: the model's weights on their way to the sites, as their change since the study's first weights.

The first weights follow from the seed, so they need not travel.  A rounded change moves every site's starting point
by the same little; what the sites send back is added to the exact weights, so rounding does not pile up over rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.config.training import TrainingSettings
from common.messages.weight_update import WeightUpdate, pack, unpack
from common.seeds import stream

__all__ = ["received_weights", "sent_change"]

Weights = Mapping[str, np.ndarray[Any, Any]]


def sent_change(
    weights: Weights, first: Weights, training: TrainingSettings, *, seed: int, round_number: int
) -> WeightUpdate | None:
    """The change in the protocol's encoding; None where the weights themselves travel."""
    encoding = training.wire_broadcast
    if encoding == "float32":
        return None
    change = {name: weight - first[name] for name, weight in weights.items()}
    return pack(change, encoding, stream(seed, "broadcast", round_number))


def received_weights(change: WeightUpdate, first: Weights) -> dict[str, np.ndarray[Any, Any]]:
    """What every site starts from."""
    found = unpack(change, first)
    return {name: np.add(first[name], part, out=part if part.flags.writeable else None) for name, part in found.items()}
