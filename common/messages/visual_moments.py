"""visual_moments: what standardises the visual features, on its way to the sites: once, and then by its digest.

Two numbers for each of a million features are as much as the model's change itself.  A site keeps them in its cache
(client/store/moments_store.py); one that has lost them refuses `moments-unknown`, and they travel again.
"""

from __future__ import annotations

import hashlib

import numpy as np

from common.messages.model import ModelState

__all__ = ["UNKNOWN", "has_moments", "moments_digest", "without_moments"]

UNKNOWN = "moments-unknown"
"""The refusal's code."""
NOTHING = np.zeros(0, np.float32)


def moments_digest(model: ModelState) -> str:
    """Of the mean and the deviation of every visual feature."""
    digest = hashlib.sha256()
    for array in (model.visual_mean, model.visual_deviation):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def has_moments(model: ModelState) -> bool:
    """Whether they travel with it."""
    return bool(model.visual_mean.size)


def without_moments(model: ModelState) -> ModelState:
    """The same model for those who know them."""
    return model.model_copy(update={"visual_mean": NOTHING, "visual_deviation": NOTHING})
