"""wavelet: the undecimated wavelet of the ROI's bounding box alone, equal to that of the whole image.

One coefficient depends on as many voxels as the filter has taps (coif1: 6).  The box therefore takes that
margin with it, and at the image's border the voxels PyRadiomics would take: it appends the first slice to
an odd axis and wraps around.  PyWavelets does the arithmetic, so equality is to the last bit.

A band is named by one letter per axis in the order x, y, z: L low-pass, H high-pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pywt
from numpy.typing import NDArray

from client.features.engine.settings import EngineSettings

__all__ = ["cut_out", "inner", "wavelet_bands", "wavelet_names"]

Box = tuple[slice, slice, slice]


def wavelet_names(settings: EngineSettings) -> tuple[str, ...]:
    """PyRadiomics' image names, in its order: the approximation of the last level comes last."""
    letters = len(_axes(settings))
    names = []
    for level in range(1, settings.level + 1):
        names += [f"{_prefix(level)}-{_letters(code, letters)}" for code in range(1, 2**letters)]
    return (*names, f"{_prefix(settings.level)}-{'L' * letters}")


def cut_out(image: NDArray[Any], box: Box, settings: EngineSettings) -> NDArray[Any]:
    """The box with the margin the wavelet needs, of an even number of voxels along each filtered axis."""
    margin, places = _margin(settings), []
    for axis, (part, size) in enumerate(zip(box, image.shape, strict=True)):
        if axis == settings.flat_axis:
            places.append(np.arange(part.start, part.stop))
            continue
        odd = (part.stop - part.start) % 2
        period = size + size % 2
        place = np.arange(part.start - margin, part.stop + margin + odd) % period
        places.append(np.where(place == size, 0, place))
    return np.asarray(image[np.ix_(*places)])


def inner(data: NDArray[Any], shape: tuple[int, ...], settings: EngineSettings) -> NDArray[Any]:
    """The box itself, of `shape`, out of what `cut_out` returned."""
    return _middle(data, shape, _axes(settings), _margin(settings))


def wavelet_bands(
    data: NDArray[Any], shape: tuple[int, ...], settings: EngineSettings, wanted: Collection[str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The bands named in `wanted`, each of the box's shape; data: from `cut_out`."""
    axes, filters = _axes(settings), pywt.Wavelet(settings.wavelet)
    approximation = "L" * len(axes)
    for to_come in range(settings.start_level + settings.level - 1, -1, -1):
        prefix = _prefix(settings.level - to_come)
        bands = {name.split("-")[1] for name in wanted if name.split("-")[0] == prefix}
        for band, array in _split(data, axes, filters, bands | {approximation} if to_come else bands):
            if to_come and band == approximation:
                data = array
            else:
                rest = to_come * (filters.dec_len // 2)
                yield f"{prefix}-{band}", _middle(array, shape, axes, rest)


def _split(
    data: NDArray[Any], axes: tuple[int, ...], filters: Any, wanted: set[str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Filter axis by axis and only towards the bands wanted; each step drops the margin it used up."""
    reach = filters.dec_len // 2
    todo = [("", data)] if wanted else []
    while todo:
        band, array = todo.pop()
        if len(band) == len(axes):
            yield band, array
            continue
        axis = axes[len(band)]
        ((low, high),) = pywt.swt(array, filters, level=1, axis=axis)
        keep = [slice(None)] * array.ndim
        keep[axis] = slice(reach, array.shape[axis] - reach)
        for letter, part in (("L", low), ("H", high)):
            if any(name.startswith(band + letter) for name in wanted):
                todo.append((band + letter, part[tuple(keep)]))


def _middle(data: NDArray[Any], shape: tuple[int, ...], axes: tuple[int, ...], margin: int) -> NDArray[Any]:
    starts = [margin if axis in axes else 0 for axis in range(data.ndim)]
    return data[tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))]


def _margin(settings: EngineSettings) -> int:
    return int(pywt.Wavelet(settings.wavelet).dec_len // 2) * (settings.start_level + settings.level)


def _axes(settings: EngineSettings) -> tuple[int, ...]:
    return tuple(axis for axis in (2, 1, 0) if axis != settings.flat_axis)


def _prefix(level: int) -> str:
    return "wavelet" if level == 1 else f"wavelet{level}"


def _letters(code: int, count: int) -> str:
    return "".join("LH"[code >> (count - 1 - i) & 1] for i in range(count))
