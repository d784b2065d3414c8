"""first_order: the distribution of the ROI's intensities, without their places.

x(v): intensity of voxel v, in 64-bit; N voxels; m the mean; p(i) share of voxels in bin i; c voxelArrayShift;
V the volume of a voxel in mm^3; P_q the q-th percentile (linear interpolation).

    Energy sum (x + c)^2                      TotalEnergy V Energy             RootMeanSquared sqrt(Energy / N)
    Minimum, Maximum, Range, Mean, Median     10Percentile, 90Percentile       InterquartileRange P_75 - P_25
    MeanAbsoluteDeviation mean |x - m|        RobustMeanAbsoluteDeviation: of the voxels in [P_10, P_90]
    Variance mean (x - m)^2                   Skewness mean (x - m)^3 / Variance^1.5
    Kurtosis mean (x - m)^4 / Variance^2      (3 for a Gaussian; IBSI subtracts the 3)
    Entropy - sum p log2 p                    Uniformity sum p^2

Skewness and kurtosis of a constant region are 0.  StandardDeviation, the root of Variance, only where asked for by name.  Source: PyRadiomics 3.0.1; IBSI 1, sections 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.features.engine.grey_levels import GreyLevels
from client.features.engine.settings import EngineSettings

__all__ = ["FIRST_ORDER", "FirstOrder"]

EPSILON = float(np.spacing(1))
"""PyRadiomics adds it inside every logarithm and some denominators."""


class FirstOrder:
    """Intensities of one ROI with what several features share."""

    def __init__(
        self, voxels: NDArray[Any], levels: GreyLevels, spacing: NDArray[np.float64], settings: EngineSettings
    ) -> None:
        self.x = voxels.astype(np.float64)
        self.p = levels.counts / levels.counts.sum()
        self.voxel_volume = float(np.multiply.reduce(spacing[::-1]))  # x y z, in PyRadiomics' order
        self.shift = settings.voxel_array_shift

    @cached_property
    def centred(self) -> NDArray[np.float64]:
        """X - m."""
        return self.x - self.x.mean()

    @cached_property
    def squared(self) -> NDArray[np.float64]:
        """(x - m)^2."""
        return self.centred * self.centred

    @cached_property
    def percentiles(self) -> NDArray[Any]:
        """P_10, P_25, P_75, P_90."""
        return np.percentile(self.x, [10, 25, 75, 90])

    @cached_property
    def energy(self) -> float:
        """Sum (x + c)^2."""
        return float(np.sum((self.x + self.shift) ** 2))

    @cached_property
    def second_moment(self) -> float:
        """Mean (x - m)^2."""
        return float(self.squared.mean())

    def robust_deviation(self) -> float:
        """Mean absolute deviation between the 10th and the 90th percentile; NaN where no voxel lies there."""
        low, _, _, high = self.percentiles
        middle = self.x[(self.x >= low) & (self.x <= high)]
        return float(np.abs(middle - middle.mean()).mean()) if middle.size else float("nan")

    def standardised_moment(self, power: int) -> float:
        """Mean (x - m)^power / Variance^(power / 2); 0 for a constant region."""
        if self.second_moment == 0:
            return 0.0
        moment = self.squared * (self.centred if power == 3 else self.squared)
        return float(moment.mean()) / self.second_moment ** (power / 2)


FIRST_ORDER: dict[str, Callable[[FirstOrder], Any]] = {
    "10Percentile": lambda f: f.percentiles[0],
    "90Percentile": lambda f: f.percentiles[3],
    "Energy": lambda f: f.energy,
    "Entropy": lambda f: -np.sum(f.p * np.log2(f.p + EPSILON)),
    "InterquartileRange": lambda f: f.percentiles[2] - f.percentiles[1],
    "Kurtosis": lambda f: f.standardised_moment(4),
    "Maximum": lambda f: f.x.max(),
    "MeanAbsoluteDeviation": lambda f: np.abs(f.centred).mean(),
    "Mean": lambda f: f.x.mean(),
    "Median": lambda f: np.median(f.x),
    "Minimum": lambda f: f.x.min(),
    "Range": lambda f: f.x.max() - f.x.min(),
    "RobustMeanAbsoluteDeviation": FirstOrder.robust_deviation,
    "RootMeanSquared": lambda f: np.sqrt(f.energy / len(f.x)),
    "Skewness": lambda f: f.standardised_moment(3),
    "StandardDeviation": lambda f: np.sqrt(f.second_moment),
    "TotalEnergy": lambda f: f.energy * f.voxel_volume,
    "Uniformity": lambda f: np.sum(f.p**2),
    "Variance": lambda f: f.second_moment,
}
