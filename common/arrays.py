"""arrays: named array types, with shapes as words and units in their comments; executed in tests.

`F722` (a string annotation that is not an expression) is off in this file only: jaxtyping's shapes
are words.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

__all__ = [
    "CaseFlags",
    "CaseScores",
    "FeatureArray",
    "FeatureCounts",
    "FeatureVector",
    "MaskArray",
    "Spacing",
    "VolumeArray",
]

FeatureArray = Float[np.ndarray, "cases features"]  # each feature in its own unit
FeatureVector = Float[np.ndarray, "features"]
FeatureCounts = Int[np.ndarray, "features bins classes"]  # cases per cell
CaseFlags = Bool[np.ndarray, "cases"]  # altered = True
CaseScores = Float[np.ndarray, "cases"]
VolumeArray = Float[np.ndarray, "z y x"]  # numpy order; SimpleITK's is x, y, z
MaskArray = UInt8[np.ndarray, "z y x"]  # 0 or 1
Spacing = tuple[float, float, float]  # mm, order x y z
