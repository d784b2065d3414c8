"""settings: what the engine must know of PyRadiomics' settings, under readable names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["EngineSettings"]


@dataclass(frozen=True)
class EngineSettings:
    """Defaults are PyRadiomics 3.0.1's.

    bin_count: number of equal bins between minimum and maximum of the ROI; None: bins of `bin_width` from 0.
    voxel_array_shift: added before squaring in Energy, TotalEnergy and RootMeanSquared.
    distances: Chebyshev distances of the neighbours of GLCM, GLDM and NGTDM; runs and zones always use 1.
    flat_axis: the numpy axis (0 = z) without neighbours or wavelet, for thick slices; None: three dimensions.
    weighting: norm that weighs the angles of GLCM and GLRLM into one matrix; None: mean over angles.
    gldm_alpha: largest difference of grey level between dependent voxels.
    wavelet, level, start_level: of the undecimated wavelet.
    """

    bin_width: float = 25
    bin_count: int | None = None
    voxel_array_shift: float = 0
    distances: tuple[int, ...] = (1,)
    flat_axis: int | None = None
    symmetrical: bool = True
    weighting: str | None = None
    gldm_alpha: int = 0
    wavelet: str = "coif1"
    level: int = 1
    start_level: int = 0

    @classmethod
    def from_pyradiomics(cls, settings: Mapping[str, Any]) -> EngineSettings:
        """Translate PyRadiomics' own names; what belongs to loading (label, resampling, ...) is not looked at."""
        get = settings.get
        return cls(
            bin_width=get("binWidth", 25),
            bin_count=get("binCount"),
            voxel_array_shift=get("voxelArrayShift", 0),
            distances=tuple(get("distances", [1])),
            flat_axis=get("force2Ddimension", 0) if get("force2D", False) else None,
            symmetrical=get("symmetricalGLCM", True),
            weighting=get("weightingNorm"),
            gldm_alpha=get("gldm_a", 0),
            wavelet=get("wavelet", "coif1"),
            level=get("level", 1),
            start_level=get("start_level", 0),
        )
