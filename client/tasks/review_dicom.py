"""review_dicom: masks to and from the hospital's own viewers, as DICOM objects of the native T1CE series."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from client.image_files import write_image
from client.ingest.dicom.header import DAMAGED
from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.manifest import read_manifest
from client.review.dicom_seg import read_segmentation, write_segmentation
from client.review.events import Edit
from client.review.native import apply_native_edit, native_grid, read_series, to_native
from client.review.rtstruct import read_structure
from client.review.states import ReviewCase
from client.site import Site
from client.store.prepared_store import PreparedStore
from client.store.salt import site_salt
from client.tasks.case_keys import open_queue
from client.tasks.review_case import finish_case, open_case
from client.tasks.review_gate import reader_files
from common.errors import InputError

__all__ = ["export_dicom", "import_dicom", "read_drawn"]


def export_dicom(site: Site, pseudonym: str, path: Path) -> Path:
    """Write the case's mask as DICOM SEG: the accepted one, else the last reading's, else the automatic one."""
    case = open_queue(site).find(pseudonym)
    sources = _sources(site, pseudonym)
    last = case.readings[-1].mask if case.readings else ""
    kept = case.accepted_mask or last
    mask = open_queue(site).masks.get(kept) if kept else _automatic(site, case)
    native = to_native(mask, native_grid(sources, pseudonym=pseudonym), _transform(site, case))
    reader = case.readings[-1].reader if case.readings else "automatic"
    write_segmentation(native, sources, path, version=_version(), reader=reader)
    return path


def import_dicom(
    site: Site, pseudonym: str, path: Path, *, reader: str, edit: Edit, minutes: float, note: str = "", region: str = ""
) -> ReviewCase:
    """Finish a case with a DICOM SEG or RTSTRUCT that was drawn on its native T1CE; checked as any other mask."""
    case = open_case(site, pseudonym, reader).case
    sources = _sources(site, pseudonym)
    native = read_drawn(path, sources, native_grid(sources, pseudonym=pseudonym), region=region, pseudonym=pseudonym)
    mask = apply_native_edit(_automatic(site, case), native, _transform(site, case))
    with tempfile.TemporaryDirectory(prefix="returned-", dir=site.settings.cache / "review") as folder:
        drawn = Path(folder) / "mask.nii.gz"
        write_image(mask, drawn)
        return finish_case(site, pseudonym, reader=reader, edit=edit, minutes=minutes, note=note, mask=drawn)


def read_drawn(path: Path, sources: Sequence[Dataset], grid: sitk.Image, *, region: str, pseudonym: str) -> sitk.Image:
    """What was drawn on these images in another viewer, on their own grid.

    InputError `dicom-unreadable` for a damaged file or another object, else as read_segmentation and read_structure.
    """
    try:
        found = pydicom.dcmread(path)
        kind = found.get("Modality")
        if kind == "SEG":
            return read_segmentation(found, sources, grid, pseudonym=pseudonym)
        if kind == "RTSTRUCT":
            frame = str(sources[0].get("FrameOfReferenceUID", ""))
            return read_structure(found, grid, frame=frame, region=region, pseudonym=pseudonym)
        told = f"modality {kind}"
    except DAMAGED as error:  # pydicom reads a value when it is asked for, so each of these lines may meet one
        told = f"{type(error).__name__}: {error}"
    raise InputError(
        "dicom-unreadable",
        case=pseudonym,
        field="DICOM file",
        problem="The file is no DICOM SEG or RTSTRUCT, or it is damaged.",
        fix="Export one of them from the viewer.",
        local=f"{path}: {told}",
    )


def _sources(site: Site, pseudonym: str) -> list[Dataset]:
    """The images of the series that the case's T1CE was read from."""
    rows = {row.pseudonym: row for row in read_manifest(site.settings.manifest, site=site.settings.name)}
    row, cache = rows.get(pseudonym), site.settings.cache
    path = Path(row.t1ce_path) if row is not None else None
    if row is None or path is None or not path.is_dir():
        return read_series([path] if path is not None and path.is_file() else [], pseudonym=pseudonym)
    dicom = DicomFolders(salt=site_salt(cache), scratch=cache / ".scratch")
    picked = dicom.pick(path, "t1ce_path", named=row.t1ce_series, case=pseudonym)
    return read_series(picked.series.paths, pseudonym=pseudonym)


def _automatic(site: Site, case: ReviewCase) -> sitk.Image:
    return reader_files(site, case.material.preparation).read("automatic")


def _transform(site: Site, case: ReviewCase) -> sitk.Transform:
    found = PreparedStore(site.settings.cache).to_native(case.material.preparation)
    if found is None:
        raise InputError(
            "transform-missing",
            case=case.pseudonym,
            field="prepared case",
            problem="The case was prepared without its way back to the native series.",
            fix="Run `fedmidline-site prepare` again after removing it from the cache.",
        )
    return found


def _version() -> str:
    try:
        return version("fedmidline")
    except PackageNotFoundError:
        return "unknown"
