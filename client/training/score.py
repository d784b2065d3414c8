"""score: apply the fused classifier to one site's cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.training.local_task import signature_values
from client.training.standardised import StandardisedMaps
from client.visual_maps import VisualMaps
from common.config.modelling import HeadSettings
from common.messages.model import ModelState
from common.networks.fused_head import CLASSES, fused_logits
from common.tables import FeatureTable

__all__ = ["fused_logits_of", "safety_margins"]


def fused_logits_of(
    table: FeatureTable, visual: VisualMaps, model: ModelState, *, head: HeadSettings, device: str
) -> Tensor:
    """Logits (cases x classes), float64; the features are read in blocks and never held whole."""
    weights = model.weights
    maps = StandardisedMaps.under(model, visual, device=device)
    hidden = maps.products(weights["visual.weight"])[0]
    bias, fusion, fusion_bias = (
        torch.tensor(weights[n], dtype=torch.float64, device=device)
        for n in ("visual.bias", "fusion.weight", "fusion.bias")
    )
    radiomics = signature_values(table, model, device, torch.float64)
    return fused_logits(hidden + bias, radiomics, fusion, fusion_bias, head.relu)


def safety_margins(
    table: FeatureTable,
    visual: VisualMaps,
    model: ModelState,
    *,
    head: HeadSettings,
    device: str,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Logit of the safety score of each case: logit(not altered) - logit(altered), float64.

    Low means altered.  The margin, not the score, is compared and ranked: scores near 0 and 1 collapse
    into ties in single precision.
    """
    if len(table) == 0:
        return np.zeros(0)
    logits = fused_logits_of(table, visual, model, head=head, device=device).cpu().numpy()
    margins: np.ndarray[Any, np.dtype[np.float64]] = (
        logits[:, CLASSES.index("not_altered")] - logits[:, CLASSES.index("altered")]
    )
    return margins
