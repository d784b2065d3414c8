"""read_dicom: T1CE or FLAIR of one case from its DICOM folder, whatever else the folder holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from client.ingest.dicom.choose import Candidate, candidates, choose
from client.ingest.dicom.convert import convert_series
from client.ingest.dicom.identify import Kind
from client.ingest.dicom.readers import Voxels
from client.ingest.dicom.scan import DicomScan, scan_folder

__all__ = ["DicomFolders"]

KINDS: dict[str, Kind] = {"t1ce_path": "t1ce", "flair_path": "flair"}


class DicomFolders:
    """The DICOM folders of one case; a folder that holds both sequences is scanned once.

    salt: the site's; scratch: where de-identified copies live while a series is converted.
    """

    def __init__(self, *, salt: bytes, scratch: Path) -> None:
        self._salt, self._scratch = salt, scratch
        self._scans: dict[Path, DicomScan] = {}

    def pick(self, folder: Path, field: str, *, named: str = "", case: str = "") -> Candidate:
        """The series for this field of the manifest; InputError as `choose`."""
        if folder not in self._scans:
            self._scans[folder] = scan_folder(folder)
        return choose(candidates(self._scans[folder], self._salt), KINDS[field], named=named, case=case, field=field)

    def read(self, picked: Candidate) -> sitk.Image:
        """The series as one 3-D image on the axes of its headers (columns, rows, along the normal).

        dcm2niix turns its axes; masks and DICOM SEG are made on the headers'.  InputError as `convert_series`.
        """
        image = _as_image(convert_series(picked.series, salt=self._salt, scratch=self._scratch).only())
        if not picked.series.frames:
            return image
        across, down = np.reshape(picked.series.frames[0][1].orientation, (2, 3))
        direction = np.column_stack([across, down, picked.series.normal]).ravel().tolist()
        return sitk.DICOMOrient(image, sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction))


def _as_image(voxels: Voxels) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.transpose(voxels.data)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ voxels.affine
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(sizes.tolist())
    # dcm2niix stores its matrix in float32: squared up again, for ITK wants an orthonormal one.
    u, _, v = np.linalg.svd(affine[:3, :3] / sizes)
    image.SetDirection((u @ v).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image
