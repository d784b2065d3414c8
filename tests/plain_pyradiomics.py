"""plain_pyradiomics: PyRadiomics 3.0.1 as anyone would call it, and what "the same value" means.

The bound: relative 1e-9 (measured 1e-13), except where a value is the rounding of an exact zero:
    any feature                 absolute 1e-13
    Skewness                    absolute 1e-12   (a mean of cubes that cancel)
    ClusterShade                1e-12 x ClusterProminence^(3/4)    (the same, of grey levels)
    LeastAxisLength, Flatness   absolute 1e-7    (square root of an eigenvalue of 1e-16, for a flat region)
    MCC, Imc2                   absolute 2e-8, below 1e-4 1e-7    (a direction without correlation gives the square
                                root of 1e-16, and the value is the mean over directions)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor

PLAIN = {
    "ibsi_like_32": {"binCount": 32},
    "paper_default": {"binWidth": 25},
    "pyrad_mr": {"binWidth": 5},
    "thick_slice_2d": {"binCount": 32, "force2D": True, "force2Ddimension": 0},
}
ABSOLUTE = {"Skewness": 1e-12, "MCC": 2e-8, "Imc2": 2e-8, "LeastAxisLength": 1e-7, "Flatness": 1e-7}


def plain_features(image: sitk.Image, mask: sitk.Image, preset: str) -> dict[str, float]:
    """Original and wavelet, all classes, no crop."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    extractor = RadiomicsFeatureExtractor(**PLAIN[preset], normalize=False, additionalInfo=False)
    extractor.enableImageTypeByName("Wavelet")
    scaled = image * 100.0 if preset == "pyrad_mr" else image
    return {name: float(value) for name, value in extractor.execute(scaled, mask).items()}


def assert_same(expected: Mapping[str, float], found: Mapping[str, float]) -> None:
    """Same names, same values."""
    assert sorted(expected) == sorted(found)
    wrong = {n: (v, found[n]) for n, v in expected.items() if abs(found[n] - v) > allowed(n, expected)}
    assert {} == wrong, wrong


def allowed(name: str, expected: Mapping[str, float]) -> float:
    """The largest difference."""
    value, feature = abs(expected[name]), name.rsplit("_", maxsplit=1)[-1]
    if feature in {"MCC", "Imc2"} and value < 1e-4:
        return 1e-7
    if feature == "ClusterShade":
        spread = expected.get(name.replace("Shade", "Prominence"), 0.0)
        return 1e-9 * value + 1e-12 * spread**0.75 + 1e-13
    return 1e-9 * value + ABSOLUTE.get(feature, 1e-13)
