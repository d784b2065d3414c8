"""stage: de-identified copies of a series under numbers for names, in a folder that only this account can open.

Every program that reads pixels sees these copies only: whatever it writes, logs or leaves behind when it is killed
holds no patient.
"""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.dataset import FileMetaDataset

from client.ingest.dicom.deidentify import deidentify, pseudonymous_uid
from client.ingest.dicom.quiet import quiet
from client.ingest.dicom.series import Series

__all__ = ["stage"]


def stage(series: Series, folder: Path, salt: bytes) -> dict[Path, Path]:
    """Copy; returns the copy of each original.  The pixels' bytes, compressed or not, are taken over unread."""
    folder.mkdir(mode=0o700, parents=True)
    copies = {}
    with quiet():
        for number, path in enumerate(series.paths, start=1):
            copies[path] = folder / f"{number:06d}.dcm"
            _copy(path, copies[path], salt)
    return copies


def _copy(source: Path, target: Path, salt: bytes) -> None:
    dataset = pydicom.dcmread(source)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = pseudonymous_uid(str(dataset.SOPInstanceUID), salt)
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    deidentify(dataset, salt)
    dataset.file_meta = meta
    dataset.preamble = bytes(128)  # 128 free bytes in which a file may carry anything
    dataset.save_as(target, enforce_file_format=True)
