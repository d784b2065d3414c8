"""visual_maps: the visual features of some cases as they lie on disk: one row per case, mapped, never copied whole.

68 cases of 1,048,576 half-precision values are 143 MB on disk and 285 MB in single precision; whoever needs all of
them goes through them in blocks of features that fit the processor's cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["VisualMaps"]

Row = np.ndarray[Any, Any]


@dataclass(frozen=True)
class VisualMaps:
    """rows: one flat array (or memory map) per case, all of one precision; length: of each."""

    rows: tuple[Row, ...]
    length: int

    @classmethod
    def of(cls, array: np.ndarray[Any, Any]) -> VisualMaps:
        """From one array, cases x length."""
        return cls(tuple(array), array.shape[1])

    def __post_init__(self) -> None:
        if {(row.shape, row.dtype) for row in self.rows} - {((self.length,), self.dtype)}:
            raise ValueError(f"maps of other lengths than {self.length}, or of mixed precision")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Cases, length."""
        return len(self.rows), self.length

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the rows, as stored."""
        return self.rows[0].dtype if self.rows else np.dtype(np.float32)

    def take(self, cases: Sequence[int]) -> VisualMaps:
        """Only these cases, in this order."""
        return VisualMaps(tuple(self.rows[i] for i in cases), self.length)

    def blocks(self, features: slice, width: int) -> Iterator[tuple[slice, np.ndarray[Any, Any]]]:
        """(place, cases x features) in the stored precision, `width` features at a time of the stretch asked for."""
        stretch = np.empty((len(self.rows), features.stop - features.start), self.dtype)
        for target, row in zip(stretch, self.rows, strict=True):
            _read(row, features, target)
        for begin in range(features.start, features.stop, width):
            end = min(begin + width, features.stop)
            yield slice(begin, end), stretch[:, begin - features.start : end - features.start]

    def to_array(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """All of them in single precision: cases x length x 4 bytes."""
        whole = np.empty((len(self.rows), self.length), np.float32)
        for target, row in zip(whole, self.rows, strict=True):
            target[:] = row
        return whole


def _read(row: Row, features: slice, target: Row) -> None:
    """Copy part of a row.  A mapped one is read, not touched: a page fault for every few kilobytes costs more."""
    if not isinstance(row, np.memmap) or row.filename is None:
        target[:] = row[features]
        return
    file = os.open(row.filename, os.O_RDONLY)
    try:
        found = os.preadv(file, [target.data], row.offset + features.start * row.itemsize)
    finally:
        os.close(file)
    if found != target.nbytes:
        raise OSError(f"a feature map ends early: {found} of {target.nbytes} bytes")
