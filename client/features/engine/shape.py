"""shape: size and form of the ROI; the same for every sequence that shares the mask.

A, V: area and volume of the surface mesh; l1 >= l2 >= l3: eigenvalues of the covariance of the voxel centres.

    MeshVolume V     SurfaceArea A     SurfaceVolumeRatio A / V     Sphericity (36 pi V^2)^(1/3) / A
    VoxelVolume N x volume of a voxel
    MajorAxisLength 4 sqrt(l1)    MinorAxisLength 4 sqrt(l2)    LeastAxisLength 4 sqrt(l3)
    Elongation sqrt(l2 / l1)      Flatness sqrt(l3 / l1)
    Maximum3DDiameter, and Maximum2DDiameter{Slice, Column, Row} within planes of equal z, y, x

Only where asked for by name, since they repeat Sphericity:
    Compactness1 V / sqrt(pi A^3)     Compactness2 36 pi V^2 / A^3     SphericalDisproportion 1 / Sphericity

Millimetres throughout.  Source: PyRadiomics 3.0.1; IBSI 1, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from client.features.engine.mesh import largest_diameters, surface_and_volume
from client.features.engine.region import Region

__all__ = ["SHAPE", "Shape"]


class Shape:
    """One ROI with what several features share."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.spacing = region.spacing
        self.padded = np.pad(region.inside, 1)

    @cached_property
    def mesh(self) -> tuple[float, float]:
        """Area, volume."""
        return surface_and_volume(self.padded, self.spacing)

    @cached_property
    def diameters(self) -> tuple[float, NDArray[np.float64]]:
        """In space; in planes of equal z, y, x."""
        return largest_diameters(self.padded, self.spacing)

    @cached_property
    def eigenvalues(self) -> NDArray[np.float64]:
        """l3, l2, l1 in mm^2; what rounding makes negative is 0, as for a flat ROI."""
        voxels = np.array(np.unravel_index(self.region.flat, self.region.inside.shape)) + 1  # as in the padded mask
        place = voxels.T * self.spacing
        place -= place.mean(axis=0)
        place /= np.sqrt(len(place))
        found = np.linalg.eigvals(place.T.copy() @ place).real  # rounding can make them a complex pair
        found[(found < 0) & (found > -1e-10)] = 0
        return np.sort(found)

    def axis(self, number: int) -> float:
        """4 sqrt(l)."""
        return float(4 * np.sqrt(self.eigenvalues[number]))

    def ratio(self, number: int) -> float:
        """sqrt(l / l1)."""
        return float(np.sqrt(self.eigenvalues[number] / self.eigenvalues[2]))


SHAPE: dict[str, Callable[[Shape], float]] = {
    "Compactness1": lambda s: s.mesh[1] / (s.mesh[0] ** (3 / 2) * np.sqrt(np.pi)),
    "Compactness2": lambda s: 36 * np.pi * s.mesh[1] ** 2 / s.mesh[0] ** 3,
    "Elongation": lambda s: s.ratio(1),
    "Flatness": lambda s: s.ratio(0),
    "LeastAxisLength": lambda s: s.axis(0),
    "MajorAxisLength": lambda s: s.axis(2),
    "Maximum2DDiameterColumn": lambda s: s.diameters[1][1],
    "Maximum2DDiameterRow": lambda s: s.diameters[1][2],
    "Maximum2DDiameterSlice": lambda s: s.diameters[1][0],
    "Maximum3DDiameter": lambda s: s.diameters[0],
    "MeshVolume": lambda s: s.mesh[1],
    "MinorAxisLength": lambda s: s.axis(1),
    "Sphericity": lambda s: (36 * np.pi * s.mesh[1] ** 2) ** (1 / 3) / s.mesh[0],
    "SphericalDisproportion": lambda s: s.mesh[0] / (36 * np.pi * s.mesh[1] ** 2) ** (1 / 3),
    "SurfaceArea": lambda s: s.mesh[0],
    "SurfaceVolumeRatio": lambda s: s.mesh[0] / s.mesh[1],
    "VoxelVolume": lambda s: len(s.region) * float(np.prod(s.spacing)),
}
