"""standardised: products with standardised visual features, block by block, without ever holding them.

X = (maps - mean) / deviation / sqrt(length), cases x length; a case's row has length about one.
Each block of features is widened to single precision, standardised and multiplied while it lies in the
processor's cache; blocks are added in double precision in their order, so that the result depends neither on the
number of threads nor on the memory at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.visual_maps import VisualMaps
from common.messages.model import ModelState

__all__ = ["StandardisedMaps"]

WIDTH = 4096
"""Features per block: 68 cases x 4096 x 4 bytes = 1.1 MB, half of a core's cache."""

Weights = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StandardisedMaps:
    """X of these cases, by the model's mean and deviation; `precision` of the products inside a block."""

    maps: VisualMaps
    mean: np.ndarray[Any, Any]
    deviation: np.ndarray[Any, Any]
    device: str = "cpu"
    precision: torch.dtype = torch.float32

    @classmethod
    def under(
        cls, model: ModelState, maps: VisualMaps, *, device: str, precision: torch.dtype = torch.float32
    ) -> StandardisedMaps:
        """X as this model standardises it."""
        return cls(maps, model.visual_mean, model.visual_deviation, device, precision)

    def products(self, matrices: Sequence[Weights], *, gram: bool = False) -> tuple[Tensor, list[Tensor]]:
        """(X X', [X M' for every M (rows x length)]), float64, in one pass; X X' is empty unless asked for."""
        cases = len(self.maps)
        inner = torch.zeros((cases, cases) if gram else (0, 0), dtype=torch.float64, device=self.device)
        outer = [torch.zeros(cases, len(m), dtype=torch.float64, device=self.device) for m in matrices]
        for place, block in self._blocks():
            if gram:
                inner += block @ block.T
            for total, matrix in zip(outer, matrices, strict=True):
                total.add_(block @ self._tensor(matrix[:, place]).T)
        return inner, outer

    def combine(self, mix: Tensor, parts: Sequence[tuple[float, Weights]] = ()) -> Weights:
        """The rows mix' X + sum of share * part, (rows, length) float32; mix: (cases, rows) float64, parts: (rows, length)."""
        result = np.empty((mix.shape[1], self.maps.length), np.float32)
        narrow = mix.T.to(self.precision)
        for place, block in self._blocks():
            change = narrow @ block
            for share, part in parts:
                if share:
                    change.add_(self._tensor(part[:, place]), alpha=share)
            result[:, place] = change.cpu().numpy()
        return result

    def whole(self) -> Tensor:
        """X itself, cases x length; for the plain reference only."""
        result = torch.empty(len(self.maps), self.maps.length, dtype=self.precision, device=self.device)
        for place, block in self._blocks():
            result[:, place] = block
        return result

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        root = math.sqrt(self.maps.length)
        mean, deviation = self._tensor(self.mean), self._tensor(self.deviation)
        scale = 1 / (deviation * root)
        for place, stored in self.maps.blocks(WIDTH):
            block = torch.from_numpy(stored).to(self.device, self.precision, copy=True)
            yield place, block.sub_(mean[place]).mul_(scale[place])

    def _tensor(self, array: Weights) -> Tensor:
        # A copy: arrays out of a message are read-only, which torch does not know.
        return torch.from_numpy(np.array(array)).to(self.device, self.precision)
