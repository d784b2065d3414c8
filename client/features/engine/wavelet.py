"""wavelet: the undecimated wavelet of the ROI's bounding box alone, equal to that of the whole image.

One coefficient depends on as many voxels as the filter has taps (coif1: 6).  The box therefore takes that
margin with it.  Where the margin would leave the image the whole axis is taken, as PyRadiomics does: it
appends the first slice to an odd axis and wraps around.  PyWavelets does the arithmetic, and it adds in
another order at the border, so this keeps equality to the last bit.

A band is named by one letter per axis in the order x, y, z: L low-pass, H high-pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pywt
from numpy.typing import NDArray

from client.features.engine.settings import EngineSettings

__all__ = ["CutOut", "cut_out", "wavelet_bands", "wavelet_names"]

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class CutOut:
    """data: the box with its margin; margin: on both sides, per axis, None where the axis is taken whole;
    start, shape: of the box in an axis taken whole, and of the box.
    """

    data: NDArray[Any]
    margin: tuple[int | None, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]

    def inner(self, array: NDArray[Any], margin_used: int = 0) -> NDArray[Any]:
        """The box itself, out of `data` or of what filters left of it."""
        starts = [s if m is None else m - margin_used for s, m in zip(self.start, self.margin, strict=True)]
        return array[tuple(slice(first, first + size) for first, size in zip(starts, self.shape, strict=True))]


def wavelet_names(settings: EngineSettings) -> tuple[str, ...]:
    """PyRadiomics' image names, in its order: the approximation of the last level comes last."""
    letters = len(_axes(settings))
    names = []
    for level in range(1, settings.level + 1):
        names += [f"{_prefix(level)}-{_letters(code, letters)}" for code in range(1, 2**letters)]
    return (*names, f"{_prefix(settings.level)}-{'L' * letters}")


def cut_out(image: NDArray[Any], box: Box, settings: EngineSettings) -> CutOut:
    """The box with the margin the wavelet needs, of an even number of voxels along each filtered axis."""
    reach = pywt.Wavelet(settings.wavelet).dec_len // 2 * (settings.start_level + settings.level)
    places, margins, starts = [], [], []
    for axis, (part, size) in enumerate(zip(box, image.shape, strict=True)):
        margin: int | None = None
        first, last = part.start - reach, part.stop + (part.stop - part.start) % 2 + reach
        if axis == settings.flat_axis:
            place, start = np.arange(part.start, part.stop), 0
        elif first < 0 or last > size:
            place, start = np.arange(size + size % 2) % size, part.start
        else:
            place, start, margin = np.arange(first, last), 0, reach
        places.append(place)
        margins.append(margin)
        starts.append(start)
    shape = tuple(part.stop - part.start for part in box)
    return CutOut(np.asarray(image[np.ix_(*places)]), tuple(margins), tuple(starts), shape)


def wavelet_bands(cut: CutOut, settings: EngineSettings, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The bands named in `wanted`, each of the box's shape."""
    axes, filters, data = _axes(settings), pywt.Wavelet(settings.wavelet), cut.data
    approximation, rounds = "L" * len(axes), settings.start_level + settings.level
    for done in range(1, rounds + 1):
        prefix = _prefix(done - settings.start_level)
        bands = {name.split("-")[1] for name in wanted if name.split("-")[0] == prefix}
        goals = bands if done == rounds else bands | {approximation}
        for band, array in _split(data, axes, filters, goals, cut.margin):
            if done < rounds and band == approximation:
                data = array
            else:
                yield f"{prefix}-{band}", cut.inner(array, done * (filters.dec_len // 2))


def _split(
    data: NDArray[Any], axes: tuple[int, ...], filters: Any, goals: set[str], margin: tuple[int | None, ...]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Filter axis by axis and only towards the bands wanted; each step drops the margin it used up."""
    todo = [("", data)] if goals else []
    while todo:
        band, array = todo.pop()
        if len(band) == len(axes):
            yield band, array
            continue
        axis = axes[len(band)]
        ((low, high),) = pywt.swt(array, filters, level=1, axis=axis)
        keep = [slice(None)] * array.ndim
        if margin[axis] is not None:
            keep[axis] = slice(filters.dec_len // 2, array.shape[axis] - filters.dec_len // 2)
        for letter, part in (("L", low), ("H", high)):
            if any(goal.startswith(band + letter) for goal in goals):
                todo.append((band + letter, part[tuple(keep)]))


def _axes(settings: EngineSettings) -> tuple[int, ...]:
    return tuple(axis for axis in (2, 1, 0) if axis != settings.flat_axis)


def _prefix(level: int) -> str:
    return "wavelet" if level == 1 else f"wavelet{level}"


def _letters(code: int, count: int) -> str:
    return "".join("LH"[code >> (count - 1 - i) & 1] for i in range(count))
