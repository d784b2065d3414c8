"""sequence: one image of one case: the original and its wavelet bands, as far as features of them are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.features.engine.measure import Names, measure_image
from client.features.engine.region import Region
from client.features.engine.roi import Roi
from client.features.engine.settings import EngineSettings
from client.features.engine.wavelet import cut_out, wavelet_bands
from common.errors import InputError

__all__ = ["Measured", "Wanted", "measure_filtered", "measure_sequence"]

Wanted = Mapping[str, Mapping[str, Names]]
"""Features by filter and class."""


@dataclass
class Measured:
    """values: by `filter_class_feature`; levels: grey levels present in the ROI, by filter."""

    values: dict[str, float] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)


def measure_sequence(
    image: NDArray[Any], roi: Roi, region: Region, settings: EngineSettings, wanted: Wanted, *, scale: float = 1.0
) -> Measured:
    """Original and wavelet; image: (z, y, x), a view is enough; scale: factor before anything else."""
    measured = Measured()
    for name, box in _filtered(image, roi, settings, wanted, scale):
        measure_filtered(measured, name, region.voxels(box), region, settings, wanted[name])
    return measured


def measure_filtered(
    measured: Measured,
    name: str,
    voxels: NDArray[Any],
    region: Region,
    settings: EngineSettings,
    wanted: Mapping[str, Names],
) -> None:
    """Add the features of one filtered image; InputError `voxels-not-finite` for NaN or infinity."""
    if not np.isfinite(voxels).all():
        raise InputError(
            "voxels-not-finite",
            field=name,
            problem="The image has NaN or infinite voxels in the region or beside it.",
            fix="Repair the image, or mask them out.",
        )
    values, levels = measure_image(voxels, region, settings, wanted)
    measured.levels[name] = levels
    measured.values.update({f"{name}_{family}_{feature}": value for (family, feature), value in values.items()})


def _filtered(
    image: NDArray[Any], roi: Roi, settings: EngineSettings, wanted: Wanted, scale: float
) -> Iterator[tuple[str, NDArray[Any]]]:
    if not wanted:
        return
    cut = cut_out(image, roi.box, settings)
    if scale != 1.0:
        cut = replace(cut, data=cut.data * (np.float32(scale) if cut.data.dtype == np.float32 else scale))
    if "original" in wanted:
        yield "original", cut.inner(cut.data)
    yield from wavelet_bands(cut, settings, [name for name in wanted if name.startswith("wavelet")])
