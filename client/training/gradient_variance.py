"""gradient_variance: how much one case's gradient differs from another's at this site, for inverse-variance weights.

Of the last layer only, whose gradient is  d (outer) (z, 1):  d the loss by the logits, z what enters the layer.  The
big layer's follows it (d passes through the same weights), and its million numbers would say nothing new.
"""

from __future__ import annotations

import torch

from client.training.local_task import LocalTask, mean_loss, signature_values, targets
from client.training.standardised import StandardisedMaps
from common.networks.fused_head import fused_logits

__all__ = ["gradient_variance"]


def gradient_variance(task: LocalTask) -> float:
    """Trace of the covariance of one case's gradient, at the incoming model; at least two cases."""
    weights, cases = task.model.weights, len(task.table)
    parts = {n: torch.tensor(weights[n], dtype=torch.float64) for n in ("visual.bias", "fusion.weight", "fusion.bias")}
    maps = StandardisedMaps.under(task.model, task.visual, device="cpu", threads=task.threads)
    hidden = maps.products(weights["visual.weight"])[0] + parts["visual.bias"]
    radiomics = signature_values(task.table, task.model, "cpu", torch.float64)
    logits = fused_logits(hidden, radiomics, parts["fusion.weight"], parts["fusion.bias"], task.head.relu)
    # The loss by the layer's output before a ReLU on it: `paper_literal` passes only where the logit is positive.
    passed = (logits > 0).double() if task.head.relu == "paper_literal" else torch.ones_like(logits)
    leaf = logits.detach().requires_grad_()
    (mean_loss(leaf, targets(task.table, "cpu"), task.class_weights) * cases).backward()
    by_logits = torch.zeros_like(logits) if leaf.grad is None else leaf.grad * passed
    entering = torch.relu(hidden) if task.head.relu == "visual" else hidden
    entering = torch.cat([entering, radiomics, torch.ones(cases, 1, dtype=torch.float64)], dim=1)
    each = torch.einsum("nc,ni->nci", by_logits, entering).reshape(cases, -1)
    return float(each.var(dim=0, correction=1).sum())
