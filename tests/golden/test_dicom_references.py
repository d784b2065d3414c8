"""Real DICOM of four scanners against the NIfTI that dcm2niix's own regression data give: equal in every voxel."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from client.ingest.dicom.convert import convert_series
from client.ingest.dicom.scan import scan_folder

DATA = Path(__file__).parents[2].parent / "shared" / "data"
CASES = [
    ("dcm_qa_nih", f"20180918GE/mr_000{n}", {"": f"DCM2NIIX_regression_test_{n}"}, True)
    for n in (4, 5, 6, 7)
]  # fmt: skip
CASES += [
    ("dcm_qa_nih", f"20180918Si/mr_000{n}", {"": f"EPI_PE={way}_{n}"}, False)  # mosaics: one reader only
    for n, way in ((3, "AP"), (4, "PA"), (5, "RL"), (6, "LR"))
]
CASES += [
    ("dcm_qa_enh", "Siemens_XA10", {"": "Siemens_REST1_w_SMS_PF7-8_6"}, True),
    (
        "dcm_qa_enh",
        "Philips",
        {"e1": "Philips_WIP_B0_NS_801_e1", "e2_fieldmaphz": "Philips_WIP_B0_NS_801_e2_fieldmaphz"},
        False,
    ),
]


@pytest.mark.parametrize(("collection", "folder", "references", "two_readers"), CASES, ids=lambda v: str(v)[-12:])
def test_equal_to_the_reference(tmp_path, collection, folder, references, two_readers):
    """From de-identified copies: taking the patient out moves no voxel and changes no value."""
    if not (DATA / collection).exists():
        pytest.skip("the DICOM of ../shared/data is not beside this checkout")
    (series,) = scan_folder(DATA / collection / "In" / folder).series

    converted = convert_series(series, salt=b"s" * 32, scratch=tmp_path)

    assert (two_readers, set(references)) == (converted.difference is not None, {v.name for v in converted.volumes})
    for volume in converted.volumes:
        reference = nibabel.load(DATA / collection / "Ref" / f"{references[volume.name]}.nii")
        assert np.allclose(reference.affine, volume.affine, rtol=0, atol=1e-4)
        assert np.array_equal(np.asanyarray(reference.dataobj), volume.data)
