"""Demographics to the paper's margins, a cohort that is the same each time, partitions that leave no one out."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from common.errors import Refused
from common.metrics.roc import auc
from common.seeds import stream
from simulation.cohort.demographics import draw_ages, draw_sexes
from simulation.cohort.make_cohort import COLUMNS, CohortSettings, make_cohort
from simulation.partition import PARTITIONS, partition
from simulation.replay import read_rows


def test_demographics_are_the_papers():
    """R3, R4: sexes, ranges, medians, quartiles, minors; F10: what age alone tells."""
    rng = stream(5, "people")
    altered, other = (np.array(draw_ages(kind, 127, rng)) for kind in (True, False))

    assert (8, 21.0, 31.0, 40.0, 66) == (altered.min(), *np.quantile(altered, (0.25, 0.5, 0.75)), altered.max())
    assert (21, 43.0, 55.0, 65.0, 81) == (other.min(), *np.quantile(other, (0.25, 0.5, 0.75)), other.max())
    assert (23, 0) == (int((altered < 18).sum()), int((other < 18).sum()))
    assert (84, 81) == tuple(draw_sexes(kind, 127, rng).count("male") for kind in (True, False))
    by_age = auc(np.concatenate([altered, other]).astype(float), np.arange(254) < 127)
    assert 0.80 < by_age < 0.89


@pytest.mark.slow
def test_a_cohort_does_not_depend_on_its_makers(tmp_path):
    """The same bytes from one worker and two; masks lie inside the brain; DICOM holds the same voxels."""
    settings = CohortSettings(seed=4, altered=1, not_altered=1, dicom=True)
    one, two = (make_cohort(tmp_path / str(n), settings, workers=n) for n in (1, 2))

    assert one.read_text() == two.read_text()
    rows = read_rows(one)
    assert list(COLUMNS) == list(rows[0])
    for row in rows:
        paths = [m.parent / "images" / row["pseudonym"] / "t1ce.nii.gz" for m in (one, two)]
        images = [sitk.ReadImage(str(p)) for p in paths]
        arrays = [sitk.GetArrayFromImage(i) for i in images]
        np.testing.assert_array_equal(*arrays)
        tumour, brain = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(one.parent / row[f"{k}_path"]))) for k in ("mask", "brain_mask")
        )
        assert tumour.sum() > 100
        assert (tumour <= brain).all()
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(one.parent / row["t1ce_path"])))
        series = reader.Execute()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(series), arrays[0])
        np.testing.assert_allclose(series.GetOrigin(), images[0].GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(series.GetSpacing(), images[0].GetSpacing(), atol=1e-4)


def test_another_cohort_in_the_folder_is_refused(tmp_path):
    (tmp_path / "cohort.json").write_text("{}")

    with pytest.raises(Refused, match="another-cohort-here"):
        make_cohort(tmp_path, CohortSettings(altered=1, not_altered=1))


@pytest.mark.parametrize("how", PARTITIONS)
def test_every_case_has_one_owner_and_every_site_both_classes(how):
    cases = 120
    altered = np.arange(cases) % 2 == 0
    is_test = np.arange(cases) % 5 == 0
    scanners = [("ge", "verio", "prisma")[i % 3] for i in range(cases)]

    owners = np.array(partition(how, scanners=scanners, altered=altered, is_test=is_test, sites=3, seed=2))

    assert cases == len(owners)
    assert 3 == len(set(owners))
    for site in set(owners):
        mine = (owners == site) & ~is_test
        assert (altered[mine]).any()
        assert (~altered[mine]).any()
