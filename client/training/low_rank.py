"""low_rank: the few directions in which a layer's rows changed.

The left factor holds the leading eigenvectors of the change's row products (rows x rows), which is the truncated
singular value decomposition (Eckart and Young 1936); no decomposition of a matrix with a million columns is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.messages.weight_update import LowRank

__all__ = ["factorise", "leading_directions"]

WIDTH = 65536


def leading_directions(energy: Tensor, tolerance: float) -> Tensor:
    """Fewest orthonormal columns (rows x rank) that leave at most `tolerance` of the change out.

    energy: change @ change.T, float64; tolerance: relative, of the Frobenius norm.
    """
    values, vectors = torch.linalg.eigh(energy)
    values = values.flip(0).clamp(min=0)
    left_out = values.sum() - values.cumsum(0)
    # Rank r leaves left_out[r - 1]; float64 cannot tell a tolerance of zero from its own rounding.
    bound = max(tolerance**2, 1e-14) * values.sum()
    rank = 0 if values.sum() == 0 else int((left_out > bound).sum()) + 1
    leading: Tensor = vectors.flip(1)[:, : min(rank, len(values))]
    return leading


def factorise(change: np.ndarray[Any, Any], tolerance: float) -> LowRank:
    """Of a change that is there whole: rows x columns, few rows."""
    tensor = torch.from_numpy(change)
    energy = torch.zeros(len(change), len(change), dtype=torch.float64)
    for block in tensor.split(WIDTH, dim=1):
        energy += block @ block.T
    left = leading_directions(energy, tolerance).float()
    return LowRank(0.0, left.numpy(), (left.T @ tensor).numpy())
