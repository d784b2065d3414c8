"""mesh: area, volume and diameters of the ROI's surface, without listing its triangles or pairs of points.

The surface is PyRadiomics' marching cubes: eight neighbouring voxels form a cube, whose 2^8 patterns of
inside and outside each have fixed triangles.  So the surface area is sum over patterns of (cubes with it) x
(its area), and the volume, sum of a . (b x c) / 6 over triangles, is linear in the place o of the cube:
volume(o) = volume(0) + o . normal.  Area, volume and normal of a pattern are asked once from PyRadiomics'
compiled mesh of one or two cubes.

Diameters join points halfway between an inside and an outside voxel.  The farthest pair in space lies on the
convex hull.  In a plane, only the two ends of each row can be the farthest pair; planes are looked at in the
order of their bounding box and the rest is left out once it cannot win.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from radiomics import cShape
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

__all__ = ["largest_diameters", "surface_and_volume"]

CORNERS = tuple((z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1))


def surface_and_volume(inside: NDArray[np.bool_], spacing: NDArray[np.float64]) -> tuple[float, float]:
    """Area in mm^2 and volume in mm^3; inside: (z, y, x), empty at its border."""
    depth, height, width = (size - 1 for size in inside.shape)
    pattern = np.zeros((depth, height, width), np.uint8)
    for bit, (z, y, x) in enumerate(CORNERS):
        pattern |= inside[z : z + depth, y : y + height, x : x + width].view(np.uint8) << bit
    place = np.nonzero((pattern != 0) & (pattern != 255))
    found = pattern[place]
    area, volume, normal = _patterns(tuple(float(s) for s in spacing))
    cubes = np.bincount(found, minlength=256)
    origins = np.array([np.bincount(found, weights=p * s, minlength=256) for p, s in zip(place, spacing, strict=True)])
    return float(cubes @ area), float(cubes @ volume + np.sum(origins * normal))


@lru_cache(maxsize=8)
def _patterns(spacing: tuple[float, float, float]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Area (256,), volume at the origin (256,) and its gradient (3, 256) of each pattern of one cube."""
    area, volume, normal = np.zeros(256), np.zeros(256), np.zeros((3, 256))
    for pattern in range(1, 255):
        cube = np.array([pattern >> bit & 1 for bit in range(8)], bool).reshape(2, 2, 2)
        area[pattern], volume[pattern] = _compiled(cube, spacing)
        for axis in range(3):
            first = cube.take([0], axis)
            below = _compiled(np.concatenate([first, first], axis), spacing)[1]
            both = _compiled(np.concatenate([first, cube], axis), spacing)[1]  # the cube one step further
            normal[axis, pattern] = (both - below - volume[pattern]) / spacing[axis]
    return area, volume, normal


def _compiled(inside: NDArray[np.bool_], spacing: tuple[float, float, float]) -> tuple[float, float]:
    area, volume, _ = cShape.calculate_coefficients(np.ascontiguousarray(inside), np.array(spacing))
    return area, volume


def largest_diameters(inside: NDArray[np.bool_], spacing: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """In space, and within planes of equal z, y and x (mm); inside: empty at its border."""
    points = np.concatenate([_crossings(inside, axis) for axis in range(3)])
    hull = points[ConvexHull(points).vertices] * (spacing / 2)
    return float(pdist(hull).max()), np.array([_in_planes(points, spacing, axis) for axis in range(3)])


def _crossings(inside: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    """(M, 3) points between unequal neighbours along `axis`, in half voxels."""
    low = [slice(None)] * 3
    high = [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    points = 2 * np.argwhere(inside[tuple(low)] != inside[tuple(high)])
    points[:, axis] += 1
    return points


def _in_planes(points: NDArray[np.int64], spacing: NDArray[np.float64], axis: int) -> float:
    """Largest distance of two points with the same coordinate along `axis`."""
    row, along = (other for other in range(3) if other != axis)
    points = points[np.lexsort((points[:, along], points[:, row], points[:, axis]))]
    new_row = np.any(np.diff(points[:, [axis, row]], axis=0) != 0, axis=1)
    ends = points[np.concatenate([[True], new_row]) | np.concatenate([new_row, [True]])]
    planes = np.split(ends[:, [row, along]] * (spacing[[row, along]] / 2), _changes(ends[:, axis]))
    bounds = np.array([np.linalg.norm(np.ptp(plane, axis=0)) for plane in planes])
    best = 0.0
    for number in np.argsort(-bounds):
        if bounds[number] <= best:
            break
        best = max(best, float(pdist(planes[number]).max(initial=0.0)))
    return best


def _changes(values: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(values)) + 1
