"""convert: one series to one NIfTI image (or several), exact and without its patient.

    stage (de-identified copies) -> dcm2niix -> the same copies through GDCM -> equal? -> voxels and affine only

The file is written anew from voxels and affine: nothing else of what the scanner or the converter noted can pass.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom

from client.ingest.dicom.faults import refusal
from client.ingest.dicom.quiet import quiet
from client.ingest.dicom.readers import Difference, Voxels, compare, read_with_dcm2niix, read_with_gdcm
from client.ingest.dicom.series import Series
from client.ingest.dicom.stage import stage
from common.disk_faults import disk_faults

__all__ = ["Converted", "convert_series", "nifti_bytes"]

ROUNDING_MM = 0.02


@dataclass(frozen=True)
class Converted:
    """volumes: what the series holds; difference: of the two readers, None where only dcm2niix can read it.

    by_headers: the readers placed equal voxels differently and the slices' own positions settled it.
    """

    volumes: tuple[Voxels, ...]
    difference: Difference | None
    by_headers: bool = False

    def only(self) -> Voxels:
        """The one 3-D volume.  InputError `several-volumes`."""
        if len(self.volumes) != 1 or self.volumes[0].data.ndim != 3:
            raise refusal("several-volumes", local=f"{len(self.volumes)} image(s)")
        return self.volumes[0]


def convert_series(series: Series, *, salt: bytes, scratch: Path) -> Converted:
    """Read the series twice and compare.

    scratch: folder for the copies, which are gone when this returns; what a killed run left is de-identified.
    InputError `not-converted`, `readers-disagree` (both results in its local face), `disk-full`, `folder-read-only`.
    """
    with disk_faults("cache"):
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="dicom-", dir=scratch))
    try:
        with disk_faults("cache"):
            copies = stage(series, work / "copies", salt)
        volumes = read_with_dcm2niix(work / "copies", work / "out")
        return _checked(series, volumes, copies)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _checked(series: Series, volumes: tuple[Voxels, ...], copies: dict[Path, Path]) -> Converted:
    """Nothing to compare with for mosaics and for several volumes within one enhanced file.

    dcm2niix takes the distance of the first two slices for all: where positions are rounded to 0.01 mm, the end of
    180 slices lies 0.7 mm off.  Then GDCM's line from the first slice to the last is taken, if every slice lies on it.
    """
    files = series.volumes()
    if files is None:
        return Converted(volumes, None)
    second = _second_reading(series, [[copies[path] for path in volume] for volume in files])
    if len(volumes) != 1:
        raise refusal("readers-disagree", local=f"dcm2niix: {len(volumes)} images; GDCM: {second.data.shape}")
    difference = compare(volumes[0], second, ratio=_philips_ratio(copies[series.paths[0]]))
    if difference.voxels == 0 and not difference.none and _slices_lie_on(series, second):
        mine, theirs = volumes[0].canonical(), second.canonical()
        return Converted((Voxels(mine.data, theirs.affine),), difference, by_headers=True)
    if not difference.none:
        raise refusal(
            "readers-disagree",
            local=f"dcm2niix: {_told(volumes[0])}; GDCM: {_told(second)}; "
            f"corners {difference.corner_mm:.3g} mm apart, {difference.voxels} voxels differ",
        )
    return Converted(volumes, difference)


def _slices_lie_on(series: Series, voxels: Voxels) -> bool:
    """Whether the headers' positions are the affine's within their rounding, 0.02 mm."""
    positions = np.array([frame.position for _, frame in series.frames]) * (-1, -1, 1)
    inside = (positions - voxels.affine[:3, 3]) @ np.linalg.inv(voxels.affine[:3, :3]).T
    return float(np.linalg.norm((inside - np.rint(inside)) @ voxels.affine[:3, :3].T, axis=1).max()) <= ROUNDING_MM


def _second_reading(series: Series, files: list[list[Path]]) -> Voxels:
    """GDCM's voxels; of an enhanced file the geometry is the frames' own."""
    second = read_with_gdcm(files)
    if not series.first.enhanced:
        return second
    order = np.argsort([np.dot(frame.position, series.normal) for frame in series.first.frames])
    frames = [series.first.frames[i] for i in order]
    down, across = frames[0].pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(frames[0].orientation[:3], across)
    affine[:3, 1] = np.multiply(frames[0].orientation[3:], down)
    affine[:3, 2] = np.subtract(frames[-1].position, frames[0].position) / (len(frames) - 1)
    affine[:3, 3] = frames[0].position
    # Frames in the file need not lie in the order of their place; every file of the series has its own order.
    headers = {header.path: header for header in series.headers}
    volumes = series.volumes() or ()
    data = second.data if second.data.ndim == 4 else second.data[..., np.newaxis]
    sorted_data = np.stack(
        [
            data[:, :, np.argsort([np.dot(f.position, series.normal) for f in headers[volume[0]].frames]), t]
            for t, volume in enumerate(volumes)
        ],
        axis=-1,
    )
    turned = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return replace(second, data=sorted_data if second.data.ndim == 4 else sorted_data[..., 0], affine=turned)


def _philips_ratio(copy: Path) -> float:
    """dcm2niix gives Philips' precise values, GDCM the displayed ones: 1 / (rescale slope x scale slope)."""
    with quiet():
        dataset = pydicom.dcmread(copy, stop_before_pixels=True)
        block = dataset
        if "PerFrameFunctionalGroupsSequence" in dataset:
            block = next(iter(dataset.PerFrameFunctionalGroupsSequence[0].get((0x2005, 0x140F), None) or [dataset]))
        precise, shown = block.get((0x2005, 0x100E)), block.get("RescaleSlope")
    if precise is None or shown is None or not float(precise.value) * float(shown):
        return 1.0
    return 1.0 / (float(precise.value) * float(shown))


def _told(voxels: Voxels) -> str:
    sizes = np.linalg.norm(voxels.affine[:3, :3], axis=0)
    return f"{'x'.join(map(str, voxels.data.shape))} at {' x '.join(f'{s:.4f}' for s in sizes)} mm"


def nifti_bytes(voxels: Voxels) -> bytes:
    """A gzipped NIfTI-1 of voxels and affine alone: no description, no time, no name in the gzip header."""
    image = nibabel.Nifti1Image(voxels.data, voxels.affine)
    image.set_qform(voxels.affine, code=1)
    image.set_sform(voxels.affine, code=1)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
