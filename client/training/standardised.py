"""standardised: products with standardised visual features, block by block, without ever holding them.

X = (maps - mean) / deviation / sqrt(length), cases x length; a case's row has length about one.
Each block of features is widened to single precision, standardised and multiplied while it lies in the
processor's cache.  Threads take stretches of blocks; their sums are added in double precision in the order of the
features, so that the result depends neither on the number of threads nor on the memory at hand.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from client.visual_maps import VisualMaps
from common.messages.model import ModelState

__all__ = ["StandardisedMaps"]

WIDTH = 4096
"""Features per block: 68 cases x 4096 x 4 bytes = 1.1 MB, half of a core's cache."""

STRETCH = 16 * WIDTH
"""Features per task of a thread."""

Weights = np.ndarray[Any, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class StandardisedMaps:
    """X of these cases, by the model's mean and deviation; `precision` of the products inside a block."""

    maps: VisualMaps
    mean: np.ndarray[Any, Any]
    deviation: np.ndarray[Any, Any]
    device: str = "cpu"
    precision: torch.dtype = torch.float32
    threads: int = 1

    @classmethod
    def under(
        cls,
        model: ModelState,
        maps: VisualMaps,
        *,
        device: str,
        precision: torch.dtype = torch.float32,
        threads: int = 1,
    ) -> StandardisedMaps:
        """X as this model standardises it."""
        return cls(maps, model.visual_mean, model.visual_deviation, device, precision, threads)

    def products(self, matrix: Weights, *, gram: bool = False) -> tuple[Tensor, Tensor]:
        """X M' of M (rows x length), and X X' where asked for, in one pass; float64."""
        cases, rows = len(self.maps), len(matrix)
        if gram:
            # For good: who gave the threads back would change the bits of another site in this process.
            _numpys_blas().limit(limits=1)

        def part(features: slice) -> Tensor:
            # One array, so that threads hand over one thing: M X' above, X X' below.
            height = rows + (cases if gram else 0)
            total = torch.zeros(height, cases, dtype=torch.float64, device=self.device)
            for place, block in self._blocks(features):
                total[:rows] += self._tensor(matrix[:, place]) @ block.T
                if gram:
                    total[rows:] += _own_products(block)
            return total

        both = self._sum(part)
        return both[:rows].T.contiguous(), both[rows:]

    def combine(self, mix: Tensor, parts: Sequence[tuple[float, Weights]] = ()) -> Weights:
        """The rows mix' X + sum of share * part, (rows, length) float32; mix: (cases, rows), parts: (rows, length)."""
        result = np.empty((mix.shape[1], self.maps.length), np.float32)
        narrow = mix.T.to(self.precision)

        def part(features: slice) -> None:
            for place, block in self._blocks(features):
                change = narrow @ block
                for share, other in parts:
                    if share:
                        change.add_(self._tensor(other[:, place]), alpha=share)
                result[:, place] = change.cpu().numpy()

        self._each(part)
        return result

    def whole(self) -> Tensor:
        """X itself, cases x length; for the plain reference only."""
        result = torch.empty(len(self.maps), self.maps.length, dtype=self.precision, device=self.device)

        def part(features: slice) -> None:
            for place, block in self._blocks(features):
                result[:, place] = block

        self._each(part)
        return result

    def _sum(self, part: Callable[[slice], Tensor]) -> Tensor:
        first, *others = self._each(part)
        for other in others:
            first += other
        return first

    def _each(self, part: Callable[[slice], Result]) -> list[Result]:
        """`part` of every stretch of features, in their order."""
        begins = range(0, self.maps.length, STRETCH)
        stretches = [slice(b, min(b + STRETCH, self.maps.length)) for b in begins]
        if self.threads == 1 or len(stretches) == 1:
            return [part(stretch) for stretch in stretches]
        # torch may count threads anew in each thread; one is what keeps the bits.
        with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(part, stretches))

    def _blocks(self, features: slice) -> Iterator[tuple[slice, Tensor]]:
        """(place, standardised block); the block is overwritten by the next."""
        root = math.sqrt(self.maps.length)
        scale = 1 / (self._tensor(self.deviation[features]) * root)
        shift = -self._tensor(self.mean[features]) * scale
        buffer = torch.empty(len(self.maps), WIDTH, dtype=self.precision, device=self.device)
        for place, stored in self.maps.blocks(features, WIDTH):
            block = buffer[:, : place.stop - place.start].copy_(torch.from_numpy(stored))
            here = slice(place.start - features.start, place.stop - features.start)
            yield place, torch.addcmul(shift[here], block, scale[here], out=block)

    def _tensor(self, array: Weights) -> Tensor:
        # A copy: arrays out of a message are read-only, which torch does not know.
        return torch.from_numpy(np.array(array)).to(self.device, self.precision)


@functools.cache
def _numpys_blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _own_products(block: Tensor) -> Tensor:
    """Products of the rows with each other: NumPy, unlike torch, has BLAS compute one half and mirror it."""
    if block.device.type != "cpu" or block.dtype not in (torch.float32, torch.float64):
        return block @ block.T
    rows = block.numpy()
    return torch.from_numpy(rows @ rows.T)
