"""comparison: what `compare` found, as a table: means over the seeds, and paired differences from the pooled arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulation.compare import ArmResult

__all__ = ["comparison"]


def comparison(results: Sequence[ArmResult]) -> dict[str, Any]:
    """Plain values for JSON; `minus_pooled` is None without a pooled arm, its SE without a second seed 0."""
    pooled = next((np.array(r.auc) for r in results if r.name == "pooled"), None)
    return {
        "seeds": len(results[0].auc) if results else 0,
        "arms": {
            r.name: {
                "auc": [round(value, 6) for value in r.auc],
                "mean": float(np.mean(r.auc)),
                "sd": float(np.std(r.auc, ddof=1)) if len(r.auc) > 1 else 0.0,
                "minus_pooled": None if pooled is None else _paired(np.array(r.auc) - pooled),
                "bytes_up": r.bytes_up,
            }
            for r in results
        },
    }


def _paired(differences: np.ndarray[Any, Any]) -> dict[str, float]:
    many = len(differences) > 1
    return {
        "mean": float(differences.mean()),
        "se": float(differences.std(ddof=1) / np.sqrt(len(differences))) if many else 0.0,
        "largest": float(np.abs(differences).max()),
    }
