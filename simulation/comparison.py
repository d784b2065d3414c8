"""comparison: what `compare` found, as a table: means over the seeds, paired differences, and in words what they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulation.compare import ArmResult

__all__ = ["comparison", "verdict"]

CLOSE = 0.02
"""AUC: as near as the federated mean must come to the pooled one."""


def comparison(results: Sequence[ArmResult]) -> dict[str, Any]:
    """Plain values for JSON; a difference is None without its arm, its SE without a second seed 0."""
    by_name = {r.name: np.array(r.auc) for r in results}
    pooled, federated = by_name.get("pooled"), by_name.get("federated")
    return {
        "seeds": len(results[0].auc) if results else 0,
        "arms": {
            r.name: {
                "auc": [round(value, 6) for value in r.auc],
                "mean": float(np.mean(r.auc)),
                "sd": float(np.std(r.auc, ddof=1)) if len(r.auc) > 1 else 0.0,
                "minus_pooled": None if pooled is None else _paired(np.array(r.auc) - pooled),
                "federated_minus_this": None if federated is None else _paired(federated - np.array(r.auc)),
                "bytes_up": r.bytes_up,
            }
            for r in results
        },
    }


def verdict(table: dict[str, Any]) -> list[str]:
    """Sentences about a comparison with the arms federated, pooled and alone; each says yes or no by the figures."""
    arms = table["arms"]
    gap = arms["federated"]["minus_pooled"]
    alone = {name.removeprefix("alone: "): arm for name, arm in arms.items() if name.startswith("alone: ")}
    near = "within" if abs(gap["mean"]) <= CLOSE else "NOT within"
    sentences = [
        f"Federated minus pooled: {gap['mean']:+.3f} (SE {gap['se']:.3f}), at most {gap['largest']:.3f} in one split: "
        f"{near} {CLOSE} on average."
    ]
    for name, arm in alone.items():
        ahead = arm["federated_minus_this"]
        sentences.append(
            f"Federated minus {name} alone: {ahead['mean']:+.3f} (SE {ahead['se']:.3f}), higher in {ahead['higher']} and "
            f"equal in {ahead['equal']} of {table['seeds']} splits: {_judged(ahead)}."
        )
    return sentences


def _judged(ahead: dict[str, Any]) -> str:
    """Twice the standard error of paired splits is the least that is called a difference; splits share cases, so it
    is rather too small.
    """
    if ahead["mean"] <= 0:
        return "NOT above"
    return "above" if ahead["mean"] > 2 * ahead["se"] else "above on average, but no further than chance"


def _paired(differences: np.ndarray[Any, Any]) -> dict[str, float]:
    many = len(differences) > 1
    return {
        "mean": float(differences.mean()),
        "se": float(differences.std(ddof=1) / np.sqrt(len(differences))) if many else 0.0,
        "largest": float(np.abs(differences).max()),
        "higher": int((differences > 0).sum()),
        "equal": int((differences == 0).sum()),
    }
