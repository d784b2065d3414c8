"""A hospital with a folder of DICOM and a spreadsheet joins: init, check, and the first images, from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.manifest import read_manifest
from client.ingest.read_case import read_case
from client.site import open_site
from client.store.salt import site_salt
from client.tasks.check_site import check_site
from client.tasks.init_site import Sources, init_site
from simulation.cohort.make_cohort import CohortSettings, make_cohort

PROTOCOL = Path(__file__).parents[2] / "site_configs" / "protocols" / "recommended.yaml"


@pytest.mark.slow
def test_from_a_folder_and_a_spreadsheet_to_images_on_their_masks_grid(tmp_path):
    """Voxels of both sequences equal the cohort's own NIfTI; tissue dates came back as the intervals they were."""
    make_cohort(tmp_path / "c", CohortSettings(seed=5, altered=1, not_altered=1, dicom=True), workers=1)
    truth = {r.scan_to_tissue_days: r for r in read_manifest(tmp_path / "c" / "manifest.csv", site="s")}
    sources = Sources(dicom=tmp_path / "c" / "images", sheet=tmp_path / "c" / "clinical.csv")

    report = init_site(tmp_path / "s", name="s", protocol=str(PROTOCOL), sources=sources).as_dict()

    site = open_site(tmp_path / "s" / "site.yaml")
    found = check_site(site).as_dict()
    assert (2, {}, 2, True) == (
        report["both_sequences_certain"],
        report["to_decide"],
        found["ready"],
        found["balanced"],
    )
    cache = site.settings.cache
    for row in read_manifest(site.settings.manifest, site="s"):
        case = read_case(row, dicom=DicomFolders(salt=site_salt(cache), scratch=cache / ".scratch"))
        original = truth[row.scan_to_tissue_days]
        assert (original.altered, original.scanner.split("-")[-1]) == (row.altered, row.scanner.split()[-2].lower())
        for name, image in (("t1ce", case.t1ce), ("flair", case.flair)):
            expected = sitk.ReadImage(str(Path(original.t1ce_path).parent / f"{name}.nii.gz"))
            assert np.array_equal(sitk.GetArrayFromImage(expected), sitk.GetArrayFromImage(image))
        assert case.tumour_mask.GetSize() == case.t1ce.GetSize()
