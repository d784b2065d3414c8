"""personal: what is a site's own in the classifier and never leaves it.

    normalisation   FedBN (Li et al. 2021, arXiv 2102.07623).  The head normalises in one place, its inputs: each site
                    standardises radiomics and visual features by its own training cases, in every round and when it
                    scores.
    last_layer      the personal last layer of FedPer (Arivazhagan et al. 2019, arXiv 1912.00818) as Ditto fits it (Li
                    et al. 2021, arXiv 2012.04221): from the study's finished model each site moves the last layer to

                        min  its mean loss + personal_pull / 2 * |w - the study's|^2

                    Strictly convex (without ReLU on the logits), so the answer is one and is found again from the same
                    cases: nothing is kept, the study's own model stays whole, and a site without training cases uses it.

Fitted on training cases only.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize

from client.training.local_task import mean_loss, signature_values, targets
from client.training.standardised import StandardisedMaps
from client.visual_maps import VisualMaps
from common.config.modelling import HeadSettings
from common.config.training import TrainingSettings
from common.messages.model import ModelState
from common.networks.fused_head import CLASSES, fused_logits
from common.stats.moments import finish, of_one_site, summarise_squares_array, summarise_sums_array
from common.tables import TrainingTable, require_training

__all__ = ["LAST_LAYER", "own_last_layer", "own_normalisation", "personalised"]

LAST_LAYER = ("fusion.weight", "fusion.bias")


def personalised(
    model: ModelState, table: TrainingTable, visual: VisualMaps, *, head: HeadSettings, training: TrainingSettings
) -> ModelState:
    """The model as this site scores with it."""
    if training.personal == "normalisation":
        return own_normalisation(model, table, visual)
    if training.personal == "last_layer":
        return own_last_layer(model, table, visual, head=head, pull=training.personal_pull)
    return model


def own_normalisation(model: ModelState, table: TrainingTable, visual: VisualMaps) -> ModelState:
    """The same weights behind the site's own mean and deviation; two passes over the maps."""
    radiomics = of_one_site(table.columns(model.signature))
    sums = summarise_sums_array(visual)
    maps = finish(sums, summarise_squares_array(visual, sums.total / sums.count))
    return model.model_copy(
        update={
            "radiomics_mean": radiomics.mean,
            "radiomics_deviation": radiomics.deviation,
            "visual_mean": maps.mean.astype(np.float32),
            "visual_deviation": maps.deviation.astype(np.float32),
        }
    )


def own_last_layer(
    model: ModelState, table: TrainingTable, visual: VisualMaps, *, head: HeadSettings, pull: float
) -> ModelState:
    """The study's weights but for the last layer; classes weigh as they are."""
    require_training(table)
    maps = StandardisedMaps.under(model, visual, device="cpu")
    hidden = maps.products(model.weights["visual.weight"])[0] + torch.tensor(
        model.weights["visual.bias"], dtype=torch.float64
    )
    radiomics = signature_values(table, model, "cpu", torch.float64)
    target = targets(table, "cpu")
    shape = model.weights["fusion.weight"].shape
    start = np.concatenate([model.weights[name].astype(np.float64).ravel() for name in LAST_LAYER])
    anchor = torch.from_numpy(start)

    def cost(point: np.ndarray) -> tuple[float, np.ndarray]:
        layer = torch.tensor(point, requires_grad=True)
        weight, bias = layer[: -len(CLASSES)].reshape(shape), layer[-len(CLASSES) :]
        loss = mean_loss(fused_logits(hidden, radiomics, weight, bias, head.relu), target, (1.0, 1.0))
        loss = loss + pull / 2 * ((layer - anchor) ** 2).sum()
        loss.backward()
        return float(loss.detach()), np.asarray(layer.grad)

    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9})
    point = found.x.astype(np.float32)
    layer = {LAST_LAYER[0]: point[: -len(CLASSES)].reshape(shape), LAST_LAYER[1]: point[-len(CLASSES) :]}
    return model.model_copy(update={"weights": {**model.weights, **layer}})
