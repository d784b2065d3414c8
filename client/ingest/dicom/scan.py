"""scan: every file below a folder, sorted into series; what is no image of ours is counted by its reason."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.ingest.dicom.header import Header, read_header
from client.ingest.dicom.series import Series
from common.errors import InputError

__all__ = ["DicomScan", "scan_folder"]

LOCALIZER_WORDS = ("localizer", "localiser", "scout", "survey", "3-plane", "3plane", "3 plane", "plane loc", "loc_")


@dataclass(frozen=True)
class DicomScan:
    """files = the sum of `others` (by code) and of the series' files and their exact copies."""

    series: tuple[Series, ...]
    others: dict[str, int]
    files: int

    @property
    def balanced(self) -> bool:
        """No file vanished."""
        return self.files == sum(self.others.values()) + sum(len(s.headers) + s.copies for s in self.series)


def scan_folder(folder: Path) -> DicomScan:
    """Read the headers below `folder`, whatever its nesting.

    InputError `folder-missing`, `folder-unreadable`.  Files that cannot be read never stop the others.
    """
    if not folder.is_dir():
        raise InputError(
            "folder-missing",
            field="dicom",
            problem="The DICOM folder is not there.",
            fix="Check the path.",
        )
    by_series: dict[str, list[Header]] = defaultdict(list)
    others: Counter[str] = Counter()
    files = 0
    for path in _files(folder):
        files += 1
        header = _unopened(path) or read_header(path)
        if isinstance(header, str):
            others[header] += 1
        else:
            by_series[header.series_uid].append(header)
    series = [part for headers in by_series.values() for part in _sort_series(headers)]
    series.sort(key=lambda s: (s.first.study_uid, s.first.series_number, s.first.series_uid, s.part))
    return DicomScan(tuple(series), dict(sorted(others.items())), files)


def _files(folder: Path) -> Iterable[Path]:
    """Files in a fixed order, and links to folders: those are not followed, so a loop cannot trap us."""

    def refuse(_error: OSError) -> None:
        raise InputError(
            "folder-unreadable",
            field="dicom",
            problem="A folder below the DICOM folder cannot be opened.",
            fix="Give the account that runs this the right to read it.",
        )

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        yield from (Path(place) / name for name in folders if (Path(place) / name).is_symlink())
        yield from (Path(place) / name for name in sorted(names))


def _unopened(path: Path) -> str:
    """The code of what is counted and not read."""
    if path.is_symlink() and path.is_dir():
        return "linked-folder"
    return "hidden-file" if path.name.startswith(".") else ""


def _sort_series(headers: list[Header]) -> list[Series]:
    """One series UID: refused as a whole, or split by grid, echo and component."""
    kept, copies, clash = _without_copies(headers)
    kept.sort(key=lambda h: (h.instance_number or 0, h.instance_uid))
    fault = _fault_of_all(kept) or ("duplicate-slices" if clash else "")
    if fault:
        return [Series(tuple(kept), fault, copies)]
    parts: list[list[Header]] = []
    for header in kept:
        home = next((part for part in parts if _belong_together(part[0], header)), None)
        if home is None:
            parts.append([header])
        else:
            home.append(header)
    complete = _is_complete(kept)
    series = [Series(tuple(part), part=number, complete=complete) for number, part in enumerate(parts)]
    return [replace(series[0], copies=copies), *series[1:]]


def _is_complete(headers: list[Header]) -> bool:
    """Geometry cannot tell that slices are missing at an end of the stack; instance numbers can."""
    numbers = {header.instance_number for header in headers if header.instance_number is not None}
    counted = len(numbers) == len(headers)
    announced = max((header.images_in_acquisition or 0 for header in headers), default=0)
    return not (counted and max(numbers) > len(headers)) and announced <= len(headers)


def _without_copies(headers: list[Header]) -> tuple[list[Header], int, bool]:
    """Byte-identical copies of an instance are one; two instances of one name that differ are a clash."""
    by_instance: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_instance[header.instance_uid].append(header)
    kept: list[Header] = []
    copies, clash = 0, False
    for same in by_instance.values():
        if len(same) > 1 and len({hashlib.sha256(h.path.read_bytes()).digest() for h in same}) > 1:
            kept += same
            clash = True
        else:
            kept.append(same[0])
            copies += len(same) - 1
    return kept, copies, clash


def _fault_of_all(headers: list[Header]) -> str:
    """Reasons that concern the series UID as a whole."""
    if len({header.patient for header in headers}) > 1:
        return "mixed-patients"
    planes = _planes(headers)
    told = any(word in headers[0].description.lower() for word in LOCALIZER_WORDS)
    if any("LOCALIZER" in h.image_type for h in headers) or told or (planes > 1 and len(headers) <= 20 * planes):
        return "localizer"
    return ""


def _planes(headers: list[Header]) -> int:
    """How many clearly different slice directions (more than 20 degrees apart)."""
    normals: list[np.ndarray] = []
    for header in headers:
        for frame in header.frames[:1]:
            normal = np.cross(frame.orientation[:3], frame.orientation[3:])
            if not any(abs(float(normal @ other)) > np.cos(np.radians(20)) for other in normals):
                normals.append(normal)
    return len(normals)


def _belong_together(a: Header, b: Header) -> bool:
    alike = (a.size, a.echo_number, a.class_uid, a.samples_per_pixel, _component(a), len(a.frames) > 0) == (
        b.size,
        b.echo_number,
        b.class_uid,
        b.samples_per_pixel,
        _component(b),
        len(b.frames) > 0,
    )
    if not alike or not a.frames:
        return alike
    echo = abs((a.echo_time_ms or 0) - (b.echo_time_ms or 0)) < 0.1
    one, other = a.frames[0], b.frames[0]
    return (
        echo
        and np.allclose(one.orientation, other.orientation, atol=1e-3)
        and np.allclose(one.pixel_spacing_mm, other.pixel_spacing_mm, rtol=1e-3)
    )


def _component(header: Header) -> tuple[str, ...]:
    """Origin, and magnitude, phase, real or imaginary."""
    kinds = {"M", "P", "R", "I", "MAGNITUDE", "PHASE", "PHASE MAP", "REAL", "IMAGINARY", "M_FFE", "M_SE", "M_IR"}
    return (*header.image_type[:1], *sorted(kinds.intersection(header.image_type[2:])))
