"""Masks as DICOM objects of the native series: there and back, and what does not belong to the series."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from client.site import Site, open_site
from client.tasks.case_keys import open_queue
from client.tasks.review_case import accept_case
from client.tasks.review_gate import reader_files
from common.errors import InputError
from simulation.cohort.scanner import SCANNERS
from simulation.cohort.write_dicom import write_series
from tests.review_site import TO_NATIVE, enter_all, write_review_site

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from client.review.dicom_seg import write_segmentation  # noqa: E402  # after the skip
from client.review.native import apply_native_edit, native_grid, read_series, to_native  # noqa: E402
from client.tasks.review_dicom import export_dicom, import_dicom  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of the libraries


def native_image() -> sitk.Image:
    """Oblique, anisotropic, 3 mm slices."""
    image = sitk.Image([128, 140, 50], sitk.sitkInt16) + 100
    image.SetSpacing((1.1, 1.1, 3.0))
    image.SetDirection(tuple(np.array(sitk.Euler3DTransform((0, 0, 0), 0.15, 0.1, -0.2).GetMatrix())))
    image.SetOrigin((-75.0, -60.0, -75.0))
    return image


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """The first case's T1CE is a DICOM series, the second's is not."""
    path = write_review_site(tmp_path, 2)
    home = path.parent
    scanner = next(iter(SCANNERS.values()))
    write_series(native_image(), home / "t1ce", scanner=scanner, sequence="t1ce", pseudonym="one")
    text = (home / "manifest.csv").read_text().splitlines()
    text[1] = text[1].replace("0.nii.gz", "t1ce", 1)
    (home / "manifest.csv").write_text("\n".join(text) + "\n")
    site = open_site(path)
    enter_all(site)
    return site


def automatic(site: Site) -> sitk.Image:
    return reader_files(site, open_queue(site).find("case-00").material.preparation).read("automatic")


def sources(site: Site) -> list[Dataset]:
    return read_series(list((site.settings.manifest.parent / "t1ce").iterdir()), pseudonym="p")


def overlap(one: sitk.Image, other: sitk.Image) -> float:
    a, b = (sitk.GetArrayFromImage(image) > 0 for image in (one, other))
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def centre_mm(mask: sitk.Image) -> np.ndarray:
    index = np.argwhere(sitk.GetArrayFromImage(mask))[:, ::-1].mean(axis=0)
    return np.array(mask.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def test_the_exported_segmentation_lies_where_the_tumour_is(site: Site, tmp_path: Path):
    """Every frame names the slice it lies on, and the patient's study is the series' own."""
    path = export_dicom(site, "case-00", tmp_path / "seg.dcm")

    found, images = pydicom.dcmread(path), {s.SOPInstanceUID: s for s in sources(site)}
    one = next(iter(images.values()))
    assert (one.StudyInstanceUID, one.FrameOfReferenceUID) == (found.StudyInstanceUID, found.FrameOfReferenceUID)
    for frame in found.PerFrameFunctionalGroupsSequence:
        named = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(np.array(place, float), np.array(images[named].ImagePositionPatient, float), atol=1e-4)
    native = highdicom.seg.segread(path).get_volume(combine_segments=True).to_simpleitk()
    expected = TO_NATIVE.TransformPoint(centre_mm(automatic(site)).tolist())
    assert np.linalg.norm(centre_mm(native) - expected) < 0.5
    volume = [sitk.GetArrayFromImage(m).sum() * np.prod(m.GetSpacing()) for m in (native, automatic(site))]
    assert volume[0] == pytest.approx(volume[1], rel=0.03)


def test_a_folder_of_several_series_gives_the_one_that_was_read(site: Site, tmp_path: Path):
    """FLAIR beside T1CE in one folder: the segmentation refers to T1CE's slices."""
    scanner = next(iter(SCANNERS.values()))
    home = site.settings.manifest.parent / "t1ce"
    expected = {s.SOPInstanceUID for s in sources(site)}
    write_series(native_image(), home / "more", scanner=scanner, sequence="flair", pseudonym="one")

    found = pydicom.dcmread(export_dicom(site, "case-00", tmp_path / "seg.dcm"))

    series = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in series} <= expected


def test_an_untouched_segmentation_comes_back_as_the_automatic_mask(site: Site, tmp_path: Path):
    path = export_dicom(site, "case-00", tmp_path / "seg.dcm")

    case = import_dicom(site, "case-00", path, reader="R1", edit="none", minutes=1)

    assert (1.0, 0, 0) == (case.readings[0].dice, case.readings[0].added_voxels, case.readings[0].removed_voxels)


def test_an_edit_in_native_space_arrives_on_the_analysis_grid(site: Site, tmp_path: Path):
    """A margin drawn on the native slices: what is added lies around the tumour, nothing is lost."""
    images = sources(site)
    native = to_native(automatic(site), native_grid(images, pseudonym="p"), TO_NATIVE)
    write_segmentation(sitk.BinaryDilate(native, [2, 2, 0]), images, tmp_path / "e.dcm", version="1", reader="R1")

    case = import_dicom(site, "case-00", tmp_path / "e.dcm", reader="R1", edit="minor", minutes=1)

    reading = case.readings[0]
    assert reading.removed_voxels == 0
    assert reading.added_voxels > 300
    assert reading.hd95_mm < 4.5  # two pixels of 1.1 mm and a voxel of 2 mm
    accept_case(site, "case-00", by="R1")
    again = export_dicom(site, "case-00", tmp_path / "accepted.dcm")
    assert pydicom.dcmread(again).ContentCreatorName == "R1"


def test_the_native_grid_is_the_series_as_any_reader_has_it(site: Site):
    """GDCM reads the same series: the same size and the same place of every corner."""
    grid = native_grid(sources(site), pseudonym="p")

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(site.settings.manifest.parent / "t1ce")))
    theirs = reader.Execute()

    assert theirs.GetSize() == grid.GetSize()
    corners = list(product(*((0, n - 1) for n in grid.GetSize())))
    ours, gdcms = (sorted(image.TransformIndexToPhysicalPoint(c) for c in corners) for image in (grid, theirs))
    assert np.allclose(ours, gdcms, atol=1e-3)


def test_native_and_back_keeps_the_mask(site: Site):
    """Drawn from nothing on thin native slices: Dice above 0.95 with the mask it was made from."""
    grid = sitk.Image([160, 190, 160], sitk.sitkUInt8)
    grid.SetOrigin((-80.0, -90.0, -80.0))
    mask = automatic(site)

    back = apply_native_edit(mask * 0, to_native(mask, grid, TO_NATIVE), TO_NATIVE)

    assert overlap(mask, back) > 0.95


def test_a_segmentation_of_other_images_is_refused(site: Site, tmp_path: Path):
    path = export_dicom(site, "case-00", tmp_path / "seg.dcm")
    found = pydicom.dcmread(path)
    found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = generate_uid()
    found.save_as(tmp_path / "other.dcm")

    with pytest.raises(InputError, match="seg-other-series"):
        import_dicom(site, "case-00", tmp_path / "other.dcm", reader="R1", edit="none", minutes=1)
    with pytest.raises(InputError, match="native-not-dicom"):
        export_dicom(site, "case-01", tmp_path / "none.dcm")
    with pytest.raises(InputError, match="dicom-unreadable"):
        import_dicom(site, "case-00", site.settings.manifest, reader="R1", edit="none", minutes=1)


def structure_set(grid: sitk.Image, frame: str, mask: np.ndarray, kind: str = "CLOSED_PLANAR") -> Dataset:
    """A disc with a round hole on every slice that the mask touches, as contours in mm."""
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = RTStructureSetStorage
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = generate_uid()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.Modality = "RTSTRUCT"
    roi, drawn = Dataset(), Dataset()
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID, roi.ROIGenerationAlgorithm = 1, "GTV", frame, ""
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, []
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    for z in np.unique(np.argwhere(mask)[:, 0]).tolist():
        y, x = np.argwhere(mask[z]).mean(axis=0)
        for radius in (12.3, 5.3):
            contour = Dataset()
            points = [
                grid.TransformContinuousIndexToPhysicalPoint((x + radius * np.cos(a), y + radius * np.sin(a), float(z)))
                for a in angles
            ]
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{value:.4f}" for point in points for value in point]
            drawn.ContourSequence.append(contour)
    found.StructureSetROISequence, found.ROIContourSequence = [roi], [drawn]
    return found


def test_a_structure_set_with_holes_is_read(site: Site, tmp_path: Path):
    """Discs with holes: the area is pi (R^2 - r^2), to a few per cent."""
    images = sources(site)
    grid = native_grid(images, pseudonym="p")
    native = sitk.GetArrayFromImage(to_native(automatic(site), grid, TO_NATIVE)) > 0
    found = structure_set(grid, images[0].FrameOfReferenceUID, native)
    found.save_as(tmp_path / "rt.dcm", enforce_file_format=True)

    case = import_dicom(site, "case-00", tmp_path / "rt.dcm", reader="R1", edit="major", minutes=1, region="GTV")

    slices = len(np.unique(np.argwhere(native)[:, 0]))
    expected_ml = np.pi * (12.3**2 - 5.3**2) * 1.1**2 * 3.0 * slices / 1000
    assert case.readings[0].volume_ml == pytest.approx(expected_ml, rel=0.04)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"frame": "1.2.3"}, "rtstruct-other-series"),
        ({"kind": "OPEN_PLANAR"}, "rtstruct-open-contour"),
        ({"region": "PTV"}, "rtstruct-region"),
        ({"shift_mm": 1.4}, "rtstruct-other-series"),
    ],
)
def test_a_structure_set_that_does_not_belong_is_refused(site: Site, tmp_path: Path, change: dict, code: str):
    images = sources(site)
    grid = native_grid(images, pseudonym="p")
    native = sitk.GetArrayFromImage(to_native(automatic(site), grid, TO_NATIVE)) > 0
    shifted = sitk.Image(grid)
    direction = np.array(grid.GetDirection()).reshape(3, 3)
    shifted.SetOrigin((np.array(grid.GetOrigin()) + direction[:, 2] * change.get("shift_mm", 0.0)).tolist())
    frame = change.get("frame", images[0].FrameOfReferenceUID)
    found = structure_set(shifted, frame, native, change.get("kind", "CLOSED_PLANAR"))
    found.save_as(tmp_path / "rt.dcm", enforce_file_format=True)

    region = change.get("region", "")
    with pytest.raises(InputError) as error:
        import_dicom(site, "case-00", tmp_path / "rt.dcm", reader="R1", edit="major", minutes=1, region=region)

    assert code == error.value.code
