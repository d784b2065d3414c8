"""region: the geometry of one ROI that all images, bands and sequences share.

Voxels are numbered 0 .. N-1 in raster order (z, y, x).  A texture matrix is a histogram of pairs (voxel,
neighbour), and a neighbour is a fixed step away in the flattened box with a border: no image has to be walked
through again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from radiomics import cMatrices

from common.errors import InputError

__all__ = ["Lines", "Region"]


@dataclass(frozen=True)
class Lines:
    """The voxels of the ROI along each direction, one direction after the other.

    order: (angles, N) voxel numbers, sorted by line and by place on the line.
    starts: (angles, N) True where a voxel does not directly follow the one before it.
    angles: (angles, 3) directions z, y, x; those along which no line holds two voxels are left out.
    """

    order: NDArray[np.int32]
    starts: NDArray[np.bool_]
    angles: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Region:
    """inside: boolean bounding box (z, y, x) that touches the ROI on all sides; spacing: mm, z y x."""

    inside: NDArray[np.bool_]
    spacing: NDArray[np.float64]
    distances: tuple[int, ...] = (1,)
    flat_axis: int | None = None

    @cached_property
    def flat(self) -> NDArray[np.intp]:
        """Place of each voxel in the flattened box."""
        return np.flatnonzero(self.inside)

    def __len__(self) -> int:
        return len(self.flat)

    def voxels(self, box: NDArray[Any]) -> NDArray[Any]:
        """The ROI's values of an image of the box, in raster order."""
        return np.asarray(box).reshape(-1)[self.flat]

    @cached_property
    def angles(self) -> NDArray[Any]:
        """Directions at the settings' distances: the first half forward, the second half their mirror."""
        return self._directions(self.distances)

    @cached_property
    def steps(self) -> NDArray[np.intp]:
        """(angles,): how far the neighbour in each direction is in the flattened box with its border."""
        return self.angles @ self._strides

    @cached_property
    def place(self) -> NDArray[np.intp]:
        """(N,): place of each voxel in the flattened box with its border."""
        return np.flatnonzero(self._bordered)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the voxels in the flattened box with its border, 0 outside the ROI."""
        grid = np.zeros(self._bordered.size, values.dtype)
        grid[self.place] = values
        return grid

    @cached_property
    def touching(self) -> NDArray[np.int32]:
        """(N, angles): number of the neighbour at distance 1 in each forward direction, N outside; connects zones."""
        number = np.full(self._bordered.size, len(self), np.int32)
        number[self.place] = np.arange(len(self))
        angles = self._directions((1,))
        steps = angles[: len(angles) // 2] @ self._strides
        found = np.empty((len(self), len(steps)), np.int32)
        for column, step in enumerate(steps):
            found[:, column] = np.take(number, self.place + step)
        return found

    @cached_property
    def neighbour_count(self) -> NDArray[np.int64]:
        """(N,): neighbours of each voxel that are inside."""
        inside, count = self._bordered.reshape(-1), np.zeros(len(self), np.int64)
        for step in self.steps:
            count += np.take(inside, self.place + step)
        return count

    @cached_property
    def lines(self) -> Lines:
        """Lines along the directions at distance 1."""
        place = np.array(np.unravel_index(self.flat, self.inside.shape))
        angles = self._directions((1,))
        orders, starts, kept = [], [], []
        for angle in angles[: len(angles) // 2]:
            key = _line_key(place, angle)
            order = np.argsort(key, kind="stable")
            step = np.diff(key[order])
            if (step < LINE_GAP).any():
                orders.append(order.astype(np.int32))
                starts.append(np.concatenate([[True], step != 1]))
                kept.append(angle)
        shape = (len(kept), len(self))
        return Lines(
            np.array(orders, dtype=np.int32).reshape(shape),
            np.array(starts, dtype=bool).reshape(shape),
            np.array(kept, dtype=int).reshape(-1, 3),
        )

    def _directions(self, distances: tuple[int, ...]) -> NDArray[Any]:
        size = np.array(self.inside.shape)
        try:
            found = cMatrices.generate_angles(
                size, np.array(distances), True, self.flat_axis is not None, self.flat_axis or 0
            )
        except RuntimeError:
            raise InputError(
                "roi-too-small",
                field="mask",
                problem="The region is smaller than the distance at which its voxels are to be compared.",
                fix="Choose smaller distances, or ask for features without neighbours.",
            ) from None
        return np.asarray(found)

    @cached_property
    def _bordered(self) -> NDArray[np.bool_]:
        return np.pad(self.inside, max(self.distances))

    @cached_property
    def _strides(self) -> NDArray[np.intp]:
        _, height, width = self._bordered.shape
        return np.array([height * width, width, 1])


LINE_GAP = 1 << 20
"""Distance between the keys of two lines; larger than any image edge."""


def _line_key(place: NDArray[Any], angle: NDArray[Any]) -> NDArray[np.int64]:
    """A number per voxel that grows by 1 along `angle` and by more than LINE_GAP between lines."""
    axis = int(np.flatnonzero(angle)[0])
    step = place[axis] * angle[axis]
    foot = place - step * angle[:, None]  # where the line through the voxel crosses the plane step = 0
    foot -= foot.min(axis=1, keepdims=True)
    _, width, depth = foot.max(axis=1) + 1
    line = (foot[0] * width + foot[1]) * depth + foot[2]
    return np.asarray(line * (2 * LINE_GAP) + (step - step.min()), dtype=np.int64)
