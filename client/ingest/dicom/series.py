"""series: the slices that make one volume (or several in time), in the order in which they lie in space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from client.ingest.dicom.header import Frame, Header
from client.ingest.dicom.vendors import scanner_name

__all__ = ["Series", "Stack"]

SAME_PLACE_MM = 0.01


@dataclass(frozen=True)
class Stack:
    """Where the slices lie.  places: distinct positions along the normal, mm; repeats: slices at each of them;
    shear_mm: how far the last slice lies beside the normal through the first; wobble_mm: the largest distance of a
    slice from the straight line between the two.
    """

    places: np.ndarray[Any, np.dtype[np.float64]]
    repeats: np.ndarray[Any, np.dtype[np.int64]]
    shear_mm: float
    wobble_mm: float

    @property
    def volumes(self) -> int:
        """Volumes in time; 0 when the slices do not share them evenly."""
        return int(self.repeats[0]) if len(set(self.repeats.tolist())) == 1 else 0


@dataclass(frozen=True, repr=False)
class Series:
    """Headers of one series UID with one grid, echo and component; copies: files that were there twice.

    fault: a reason found while the files were sorted, or empty.  complete: the numbers of the instances leave no
    gap and the scanner announced no more of them.
    """

    headers: tuple[Header, ...]
    fault: str = ""
    copies: int = 0
    part: int = 0
    complete: bool = True

    def __repr__(self) -> str:
        return f"Series({len(self.headers)} file(s))"

    @property
    def first(self) -> Header:
        """Any of them; what differs between slices is not asked of it."""
        return self.headers[0]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Original files."""
        return tuple(header.path for header in self.headers)

    @property
    def mosaic(self) -> bool:
        """Siemens' many slices in one picture."""
        return "MOSAIC" in self.first.image_type

    @property
    def scanner(self) -> str:
        """Vendor, family and field strength, in words of a closed list."""
        return scanner_name(self.first.manufacturer, self.first.model, self.first.field_strength_t)

    @cached_property
    def frames(self) -> tuple[tuple[int, Frame], ...]:
        """(index of the file, frame) of all slices."""
        return tuple((i, frame) for i, header in enumerate(self.headers) for frame in header.frames)

    @cached_property
    def normal(self) -> np.ndarray[Any, Any]:
        """Unit vector across the slices."""
        rows, columns = np.reshape(self.frames[0][1].orientation, (2, 3))
        normal: np.ndarray[Any, Any] = np.cross(rows, columns)
        normal /= np.linalg.norm(normal)
        return normal

    @cached_property
    def stack(self) -> Stack:
        """Needs frames."""
        points = np.array([frame.position for _, frame in self.frames])
        along = points @ self.normal
        order = np.argsort(along, kind="stable")
        new = np.diff(along[order], prepend=-np.inf) > SAME_PLACE_MM
        starts = np.flatnonzero(new)
        ordered = points[order][starts]
        drift = ordered - ordered[0] - np.outer(along[order][starts] - along[order][0], self.normal)
        share = np.linspace(0, 1, len(ordered)) if len(ordered) > 1 else np.zeros(1)
        straight = np.outer(share, drift[-1])
        return Stack(
            places=along[order][starts],
            repeats=np.diff(np.append(starts, len(along))),
            shear_mm=float(np.linalg.norm(drift[-1])),
            wobble_mm=float(np.linalg.norm(drift - straight, axis=1).max()),
        )

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """In plane (row direction, column direction), then between slice centres; 0 where unknown."""
        if not self.frames:
            return (0.0, 0.0, 0.0)
        down, across = self.frames[0][1].pixel_spacing_mm
        between = float(np.median(np.diff(self.stack.places))) if len(self.stack.places) > 1 else 0.0
        return (across, down, between)

    @property
    def size(self) -> tuple[int, int, int]:
        """Columns, rows, slices of one volume."""
        rows, columns = self.first.size
        return (columns, rows, len(self.stack.places) if self.frames else 0)

    def volumes(self) -> tuple[tuple[Path, ...], ...] | None:
        """Files of each volume in the order of its slices; None where single files do not make single slices
        or single volumes (mosaics, several volumes within one enhanced file).
        """
        if self.mosaic or not self.frames or not self.stack.volumes:
            return None
        count = self.stack.volumes
        if self.first.enhanced:
            whole = all(len(header.frames) == len(self.stack.places) for header in self.headers)
            return tuple((header.path,) for header in sorted(self.headers, key=_in_time)) if whole else None
        along = np.array([frame.position for _, frame in self.frames]) @ self.normal
        ranks = np.searchsorted(self.stack.places + SAME_PLACE_MM, along)
        columns: list[list[Header]] = [[] for _ in self.stack.places]
        for header, rank in zip(self.headers, ranks, strict=True):
            columns[int(rank)].append(header)
        ordered = [sorted(column, key=_in_time) for column in columns]
        return tuple(tuple(column[t].path for column in ordered) for t in range(count))


def _in_time(header: Header) -> tuple[int, int, int]:
    return (header.temporal_position or 0, header.acquisition_number or 0, header.instance_number or 0)
