"""phantom: a small tumour that exists only as integer arithmetic, and the values its features must have.

Before a study begins every site extracts it: software that computes other values (another PyRadiomics,
PyWavelets or processor) is found before any patient's features are mixed.  No file is needed: the voxels are
hashes of their own number (splitmix64), averaged with their neighbours in whole numbers, so that they are the
same bits everywhere.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from client.features.phantom_values import FLAT_WAVELETS, PHANTOM_VALUES, WAVELETS
from client.features.radiomics import SCALE, extract_radiomics
from common.arrays import FeatureVector
from common.config.radiomics import RadiomicsSettings
from common.stats.value_lock import Difference, compare_values

__all__ = ["check_phantom", "expected_values", "make_phantom", "measure_phantom"]

SHAPE = (18, 20, 22)
SPACING = (1.0, 1.0, 2.0)
MIDDLE, RADII = (8, 10, 11), (5, 6, 7)


def make_phantom() -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    """T1CE, FLAIR (64-bit, about z-scored, multiples of 1/2048) and mask."""
    images = [_image(seed) for seed in (1, 2)]
    parts = zip(np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]], MIDDLE, RADII, strict=True)
    z, y, x = ((900 * (place - middle) ** 2) // radius**2 for place, middle, radius in parts)
    mask = sitk.GetImageFromArray(np.asarray(z + y + x < 900, np.uint8))
    for image in (*images, mask):
        image.SetSpacing(SPACING)
    return images[0], images[1], mask


def _image(seed: int) -> sitk.Image:
    noise = _hash(np.arange(np.prod(SHAPE), dtype=np.uint64) + np.uint64(seed << 32)).reshape(SHAPE)
    smooth = noise.copy()
    for axis in range(3):
        smooth = smooth + np.roll(smooth, 1, axis) + np.roll(smooth, -1, axis)
    return sitk.GetImageFromArray((smooth - 27 * 512 + noise - 512).astype(np.float64) / 2048)


def _hash(number: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Ten bits of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(54)).astype(np.int64)


@lru_cache(maxsize=4)
def measure_phantom(settings: RadiomicsSettings) -> FeatureVector:
    """Its features here and now, in the order of `settings.names()`."""
    return extract_radiomics(*make_phantom(), settings).values


def check_phantom(settings: RadiomicsSettings) -> Difference | None:
    """How this computer's values differ from the shipped ones, if they do."""
    expected = expected_values(settings)
    found = dict(zip(settings.names(), map(float, measure_phantom(settings)), strict=True))
    more = tuple(name for name in expected if name not in found)
    if more:
        found |= dict(
            zip(more, map(float, extract_radiomics(*make_phantom(), settings, features=more).values), strict=True)
        )
    return compare_values(expected, found)


def expected_values(settings: RadiomicsSettings) -> dict[str, float]:
    """The values shipped for this preset and wavelet, by name.

    Those of the study's features with coif1.  With another wavelet, those that no wavelet touches, and of each T1CE band
    the 90th percentile, asked for or not: it changes with any coefficient, and what is computed from a band is the same
    arithmetic for every wavelet.
    They are plain PyRadiomics 3.0.1's, extracted without our engine (`tests/golden/test_phantom.py`).
    """
    catalogue = RadiomicsSettings(preset=settings.preset).names()
    shipped = dict(zip(catalogue, _numbers(PHANTOM_VALUES[settings.preset]), strict=True))
    asked = set(settings.names())
    if settings.wavelet == "coif1":
        return {name: value for name, value in shipped.items() if name in asked}
    untouched = {name: value for name, value in shipped.items() if name in asked and "_wavelet-" not in name}
    return untouched | _ninetieth_percentiles(settings)


def _ninetieth_percentiles(settings: RadiomicsSettings) -> dict[str, float]:
    """Of the bands of another wavelet; none where this PyWavelets has one that was unknown when they were shipped."""
    table = FLAT_WAVELETS if settings.preset == "thick_slice_2d" else WAVELETS
    row = next((line for line in table.splitlines() if line.split()[:1] == [settings.wavelet]), "")
    names = [f"T1CE_{band}_firstorder_90Percentile" for band in settings.filters if band != "original"]
    values = [value * SCALE.get(settings.preset, 1.0) for value in map(float, row.split()[1:])]
    return dict(zip(names, values, strict=True)) if values else {}


def _numbers(table: str) -> list[float]:
    """Without the words between them."""
    return [float(word) for word in table.split() if word[0] in "-0123456789"]
