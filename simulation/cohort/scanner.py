"""scanner: what GE MR750, Siemens Verio and Siemens Prisma make of the same head.

Each has its own sampling, point spread, noise, bias field, gain and contrast.  FLAIR has 2 mm slices in both
sizes.  The figures are plausible, not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from simulation.cohort.anatomy import Volume

__all__ = ["SCANNERS", "Scanner", "acquire", "draw_motion"]


@dataclass(frozen=True)
class Scanner:
    """in_plane_mm: pixel of both sequences at full size; point_spread_mm: sigma; noise: part of white
    matter's signal; bias: strength of the receive field; gain: grey values; gamma: contrast.
    """

    manufacturer: str
    model: str
    in_plane_mm: float
    point_spread_mm: float
    noise: float
    bias: float
    gain: float
    gamma: float

    def spacing_mm(self, sequence: str, size: str) -> tuple[float, float, float]:
        """x, y, z; `small` doubles the pixel and T1CE's slices."""
        factor = 2.0 if size == "small" else 1.0
        pixel = self.in_plane_mm * factor
        return (pixel, pixel, 2.0 if sequence == "flair" else 1.0 * factor)


# Gain and bias field vanish in preparation (N4, z-score); what the features keep of a scanner is point spread,
# noise and contrast, and these lie far enough apart that harmonisation has something to do.
SCANNERS = {
    "ge-mr750": Scanner("GE MEDICAL SYSTEMS", "DISCOVERY MR750", 0.9375, 0.70, 0.018, 0.22, 1080.0, 1.00),
    "siemens-verio": Scanner("SIEMENS", "Verio", 1.0, 0.95, 0.030, 0.30, 265.0, 0.92),
    "siemens-prisma": Scanner("SIEMENS", "Prisma", 0.9, 0.50, 0.014, 0.35, 370.0, 1.08),
}


def draw_motion(rng: np.random.Generator, degrees: float, millimetres: float) -> sitk.Euler3DTransform:
    """How the head lay for one sequence."""
    motion = sitk.Euler3DTransform()
    motion.SetCenter((0.0, 18.0, 2.0))
    motion.SetRotation(*[float(a) for a in rng.normal(0, np.deg2rad(degrees), 3)])
    motion.SetTranslation([float(t) for t in rng.normal(0, millimetres, 3)])
    return motion


def acquire(
    scene: Volume,
    grid: sitk.Image,
    scanner: Scanner,
    spacing_mm: tuple[float, float, float],
    motion: sitk.Transform,
    rng: np.random.Generator,
) -> sitk.Image:
    """The scene as this scanner writes it: int16 on its native grid."""
    image = sitk.GetImageFromArray(scene.astype(np.float32))
    image.CopyInformation(grid)
    # The scanner's own blur and the voxel's, independent of each other.
    blurred = sitk.SmoothingRecursiveGaussian(image, [math.hypot(scanner.point_spread_mm, 0.3 * s) for s in spacing_mm])
    native = sitk.Resample(blurred, native_grid(grid, spacing_mm), motion, sitk.sitkLinear, 0.0)
    signal = np.maximum(sitk.GetArrayFromImage(native), 0) ** np.float32(scanner.gamma)
    signal *= _receive_field(signal.shape, scanner.bias, rng)
    sigma = np.float32(scanner.noise * rng.uniform(0.8, 1.25))
    real = signal + sigma * rng.standard_normal(signal.shape, np.float32)
    imaginary = sigma * rng.standard_normal(signal.shape, np.float32)
    grey = np.hypot(real, imaginary) * scanner.gain * rng.uniform(0.85, 1.15)  # Rician noise
    written = sitk.GetImageFromArray(np.clip(np.rint(grey), 0, 32000).astype(np.int16))
    written.CopyInformation(native)
    return written


def native_grid(grid: sitk.Image, spacing_mm: tuple[float, float, float]) -> sitk.Image:
    """The scanner's grid over the same field of view."""
    extent = [n * s for n, s in zip(grid.GetSize(), grid.GetSpacing(), strict=True)]
    size = [round(e / s) for e, s in zip(extent, spacing_mm, strict=True)]
    middle = grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in grid.GetSize()])
    native = sitk.Image(size, sitk.sitkFloat32)
    native.SetSpacing(spacing_mm)
    native.SetOrigin([m - (n - 1) / 2 * s for m, n, s in zip(middle, size, spacing_mm, strict=True)])
    return native


def _receive_field(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Volume:
    """A smooth multiplicative field: linear and quadratic in each axis."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    c = (rng.normal(0, 1, 6) * strength).astype(np.float32)
    return np.asarray(np.exp(0.5 * (c[0] * x + c[1] * y + c[2] * z) + 0.4 * (c[3] * x**2 + c[4] * y**2 + c[5] * z**2)))
