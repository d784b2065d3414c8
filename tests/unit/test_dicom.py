"""DICOM: sorted, identified, refused by name, converted exactly; nothing vanishes and nothing of the patient stays."""

from __future__ import annotations

import itertools
import locale
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import RLELossless

from client.ingest.dicom.choose import candidates, choose
from client.ingest.dicom.convert import convert_series
from client.ingest.dicom.faults import REFUSALS
from client.ingest.dicom.identify import identify
from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.dicom.readers import Voxels, compare
from client.ingest.dicom.scan import scan_folder
from client.tasks.convert_folder import convert_folder
from common.errors import InputError
from tests.dicom_files import AXIAL, OBLIQUE, SAGITTAL, good_slices, save, write_enhanced, write_series

SALT = b"0" * 32
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))


def _expected(slices) -> Voxels:
    """Voxels and affine worked out from the headers, by hand."""
    first, last = slices[0], slices[-1]
    rows, columns = np.reshape([float(v) for v in first.ImageOrientationPatient], (2, 3))
    origin, end = (np.array([float(v) for v in s.ImagePositionPatient]) for s in (first, last))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = rows * 0.9, columns * 0.8
    affine[:3, 2], affine[:3, 3] = (end - origin) / (len(slices) - 1), origin
    data = np.stack([np.frombuffer(s.PixelData, np.int16).reshape(12, 10).T for s in slices], axis=-1)
    return Voxels(data, np.diag([-1.0, -1, 1, 1]) @ affine)


@pytest.mark.parametrize(
    ("axes", "reverse"), list(itertools.product([AXIAL, CORONAL, SAGITTAL, OBLIQUE], [False, True]))
)
def test_voxels_lie_where_the_headers_say(tmp_path, axes, reverse):
    slices = write_series(tmp_path / "in", axes=axes, edit=lambda s: s[::-1] if reverse else s)
    (series,) = scan_folder(tmp_path / "in").series

    converted = convert_series(series, salt=SALT, scratch=tmp_path / "scratch")

    expected = _expected(sorted(slices, key=lambda s: int(s.InstanceNumber)))
    assert compare(converted.only(), expected).none
    assert converted.difference is not None
    assert list((tmp_path / "scratch").iterdir()) == []


def test_rounded_positions_are_settled_by_the_headers(tmp_path):
    """The two readers then differ by up to 0.7 mm at the far end of a stack."""

    def rounded(slices):
        for ds in slices:
            ds.ImagePositionPatient = [f"{float(v):.2f}" for v in ds.ImagePositionPatient]
        return slices

    slices = write_series(tmp_path / "in", axes=OBLIQUE, step_mm=1.0, count=60, edit=rounded)
    (series,) = scan_folder(tmp_path / "in").series

    converted = convert_series(series, salt=SALT, scratch=tmp_path / "scratch")

    assert converted.by_headers
    assert converted.difference.corner_mm > 0.01
    apart = compare(converted.only(), _expected(slices))
    assert (True, 0) == (apart.corner_mm < 0.01, apart.voxels)  # GDCM's axes stay at right angles, the line need not


def _compress(plain: Path, packed: Path, compressor: str) -> None:
    for path in plain.iterdir():
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.SetFileName(str(packed / path.name))
        writer.Execute(sitk.ReadImage(str(path)))


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_jpeg_slices_are_the_same(tmp_path, compressor):
    """Lossless, as scanners and archives send them; GDCM compresses here."""
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    packed.mkdir()
    pixels = np.random.default_rng(0).integers(0, 900, (6, 64, 64)).astype(np.int16)
    for i, ds in enumerate(good_slices()):
        ds.Rows = ds.Columns = 64
        ds.PixelData = pixels[i].tobytes()
        save(ds, plain / f"{i}.dcm")
    before = locale.setlocale(locale.LC_CTYPE)
    _compress(plain, packed, compressor)
    locale.setlocale(locale.LC_CTYPE, before)  # ITK's DICOM writer leaves the process in the C locale

    one, other = (
        convert_series(scan_folder(folder).series[0], salt=SALT, scratch=tmp_path / "scratch").only()
        for folder in (plain, packed)
    )

    assert compare(one, other).none
    assert np.array_equal(np.sort(pixels.ravel()), np.sort(one.data.ravel()))


def test_run_length_slices_are_the_same(tmp_path):
    plain = good_slices()
    write_series(tmp_path / "in", syntax=RLELossless)
    (series,) = scan_folder(tmp_path / "in").series

    converted = convert_series(series, salt=SALT, scratch=tmp_path / "scratch")

    assert compare(converted.only(), _expected(plain)).none


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
def test_an_enhanced_file_is_the_same_volume(tmp_path, order):
    write_enhanced(tmp_path / "in" / "e", order=order, axes=OBLIQUE)
    (series,) = scan_folder(tmp_path / "in").series

    converted = convert_series(series, salt=SALT, scratch=tmp_path / "scratch")

    assert compare(converted.only(), _expected(good_slices(axes=OBLIQUE))).none


def test_the_image_in_memory_is_the_file_on_disk(tmp_path):
    """SimpleITK's image of a case, on its headers' axes, and the NIfTI that `convert` writes are one in space."""
    slices = write_series(tmp_path / "in", axes=OBLIQUE)
    report = convert_folder(tmp_path / "in", tmp_path / "out", salt=SALT)
    folders = DicomFolders(salt=SALT, scratch=tmp_path / "scratch")

    image = folders.read(folders.pick(tmp_path / "in", "t1ce_path"))

    written = sitk.ReadImage(str(tmp_path / "out" / report.outcomes[0].outputs[0]))
    turned = sitk.DICOMOrient(
        written, sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    )
    assert np.array_equal(sitk.GetArrayFromImage(turned), sitk.GetArrayFromImage(image))
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(getattr(turned, name)(), getattr(image, name)(), atol=1e-5)
    pixels = np.stack([np.frombuffer(s.PixelData, np.int16).reshape(12, 10) for s in slices])
    assert np.array_equal(pixels, sitk.GetArrayFromImage(image))


def _set(**tags: object):
    def edit(slices):
        for ds in slices:
            for name, value in tags.items():
                setattr(ds, name, value)
        return slices

    return edit


def _one(index, **tags: object):
    def edit(slices):
        _set(**tags)([slices[index]])
        return slices

    return edit


def _move(offsets_mm):
    """Shift slice i by offsets_mm[i] along z."""

    def edit(slices):
        for ds, offset in zip(slices, offsets_mm, strict=True):
            x, y, z = ds.ImagePositionPatient
            ds.ImagePositionPatient = [x, y, float(z) + offset]
        return slices

    return edit


def _tilt(slices):
    for i, ds in enumerate(slices):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, float(y) + 0.5 * i, z]
    return slices


def _no_geometry(slices):
    for ds in slices:
        del ds.ImagePositionPatient
    return slices


def _again(slices):
    """One slice exported twice under another name."""
    twin = good_slices()[2]
    twin.SOPInstanceUID = "1.2.3.4"
    return [*slices, twin]


def _three_planes(slices):
    for ds, axes in zip(slices, [AXIAL, CORONAL, SAGITTAL] * 2, strict=True):
        ds.ImageOrientationPatient = [*axes[0], *axes[1]]
    return slices


FAULTY = {
    "mixed-patients": _one(3, PatientID="P2", PatientName="Other^Person"),
    "localizer": _three_planes,
    "not-an-image": _set(Modality="PR"),
    "not-mr": _set(Modality="CT"),
    "secondary-capture": _set(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
    "derived": _set(ImageType=["DERIVED", "SECONDARY", "MPR"]),
    "not-magnitude": _set(ImageType=["ORIGINAL", "PRIMARY", "P", "ND"]),
    "burned-in": _set(BurnedInAnnotation="YES"),
    "no-geometry": _no_geometry,
    "duplicate-slices": _again,
    "missing-slices": lambda slices: [*slices[:2], *slices[3:]],
    "incomplete-series": lambda slices: slices[1:],
    "irregular-spacing": _move([0, 0, 0.6, 0, 0, 0]),
    "gantry-tilt": _tilt,
    "too-few-slices": lambda slices: slices[:3],
}


@pytest.mark.parametrize("code", FAULTY)
def test_a_faulty_series_is_refused_by_name_and_the_others_go_on(tmp_path, code):
    write_series(tmp_path / "in" / "bad", edit=FAULTY[code])
    write_series(tmp_path / "in" / "good", "flair")

    report = convert_folder(tmp_path / "in", tmp_path / "out", salt=SALT)

    refused = {o.code: o.cure for o in report.outcomes if o.status == "refused"}
    assert {code: REFUSALS[code][1]} == refused
    assert ["flair"] == [o.candidate.kind for o in report.outcomes if o.status == "converted"]


def test_files_that_are_no_dicom_are_counted_by_reason(tmp_path):
    write_series(tmp_path / "in" / "a" / "b")
    (tmp_path / "in" / "empty").touch()
    (tmp_path / "in" / "readme.txt").write_text("hello")
    (tmp_path / "in" / "cut").write_bytes((tmp_path / "in" / "a" / "b" / "t1ce-0-000").read_bytes()[:300])

    scan = scan_folder(tmp_path / "in")

    assert {"empty-file": 1, "not-dicom": 1, "unreadable-dicom": 1} == scan.others
    assert (9, True) == (scan.files, scan.balanced)


def test_what_is_not_opened_is_counted_too(tmp_path):
    write_series(tmp_path / "in")
    (tmp_path / "in" / ".hidden").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")

    scan = scan_folder(tmp_path / "in")

    assert ({"hidden-file": 1, "linked-folder": 1}, 8, True) == (scan.others, scan.files, scan.balanced)


def test_an_exact_copy_is_one_file_and_is_counted(tmp_path):
    write_series(tmp_path / "in")
    (tmp_path / "in" / "copy").write_bytes((tmp_path / "in" / "t1ce-0-002").read_bytes())

    scan = scan_folder(tmp_path / "in")

    assert [(6, 1, "")] == [(len(s.headers), s.copies, s.fault) for s in scan.series]
    assert scan.balanced


def test_a_slice_whose_pixels_are_cut_off_is_quarantined(tmp_path):
    """The header is whole, so only the converter can notice."""
    write_series(tmp_path / "in")
    path = tmp_path / "in" / "t1ce-0-003"
    path.write_bytes(path.read_bytes()[:-100])

    (outcome,) = convert_folder(tmp_path / "in", tmp_path / "out", salt=SALT).outcomes

    assert "quarantined" == outcome.status


def test_readers_that_disagree_are_both_told(tmp_path, monkeypatch):
    write_series(tmp_path / "in")
    (series,) = scan_folder(tmp_path / "in").series

    def other(files):
        image = sitk.ReadImage([str(f) for f in files[0]])
        return Voxels(np.transpose(sitk.GetArrayFromImage(image))[::-1], np.eye(4))

    monkeypatch.setattr("client.ingest.dicom.convert.read_with_gdcm", other)

    with pytest.raises(InputError) as caught:
        convert_series(series, salt=SALT, scratch=tmp_path / "scratch")

    assert "readers-disagree" == caught.value.code
    assert caught.value.local.count("10x12x6") == 2


@pytest.mark.parametrize(
    ("kind", "tags"),
    [
        ("t1ce", {"SeriesDescription": "AX T1 CE"}),
        ("t1ce", {"SeriesDescription": "t1_mprage_sag_p2_iso_KM", "ContrastBolusAgent": ""}),
        ("t1ce", {"SeriesDescription": "Ax T1 FLAIR +C"}),
        ("t1ce", {"SeriesDescription": "BRAVO post Gd"}),
        ("t1", {"SeriesDescription": "Ax T1 pre", "ContrastBolusAgent": ""}),
        ("t1", {"SeriesDescription": "t1_tse_tra", "ContrastBolusAgent": ""}),
        ("flair", {"SeriesDescription": "t2_tirm_tra_dark-fluid", "EchoTime": 85, "RepetitionTime": 9000}),
        ("flair", {"SeriesDescription": "Sag CUBE T2 FLAIR", "EchoTime": 120, "RepetitionTime": 6500}),
        ("flair", {"SeriesDescription": "AX T2 FLAIR NAV"}),  # with the paper's implausible TE 9, TR 600 (R12)
        ("t2", {"SeriesDescription": "Ax T2 FRFSE", "EchoTime": 100, "RepetitionTime": 4000, "ContrastBolusAgent": ""}),
        ("t1ce", {"SeriesDescription": "Ax T1 +C", "ProtocolName": "BRAIN W/WO CONTRAST", "ContrastBolusAgent": ""}),
        ("t1", {"SeriesDescription": "Ax T1 w/o", "ProtocolName": "BRAIN WITH CONTRAST", "ContrastBolusAgent": ""}),
        ("t1", {"SeriesDescription": "Ax T1 posterior fossa", "ContrastBolusAgent": ""}),
        ("flair", {"SeriesDescription": "FLAIR epilepsy flow comp", "ContrastBolusAgent": ""}),
        ("flair", {"SeriesDescription": "", "ProtocolName": "Ax T2 FLAIR", "ContrastBolusAgent": ""}),
        ("other", {"SeriesDescription": "ep2d_diff_3scan_trace"}),
        ("other", {"SeriesDescription": "3D TOF MRA"}),
        ("other", {"SeriesDescription": "ADC"}),
    ],
)
def test_sequences_are_known_by_their_words(tmp_path, kind, tags):
    write_series(tmp_path, **tags)
    (series,) = scan_folder(tmp_path).series

    found = identify(series.first)

    assert (kind, True) == (found.kind, found.certain), found
    assert (tags["SeriesDescription"] or "Ax T2 FLAIR") not in " ".join(found.reasons)


def test_without_words_and_agent_the_kind_is_not_certain(tmp_path):
    write_series(tmp_path, SeriesDescription="", ContrastBolusAgent="")
    (series,) = scan_folder(tmp_path).series

    assert not identify(series.first).certain


def test_two_of_a_kind_need_a_person(tmp_path):
    first = write_series(tmp_path / "a", seed=1, SeriesNumber=5)
    write_series(tmp_path / "b", seed=2, SeriesNumber=9, SeriesDescription="Sag T1 post")
    found = candidates(scan_folder(tmp_path), SALT)

    with pytest.raises(InputError, match="ambiguous-series") as caught:
        choose(found, "t1ce")

    assert all(c.key in caught.value.local for c in found)
    for word in ("#5", found[0].key, str(first[0].SeriesInstanceUID), "ax t1 +c"):
        assert 5 == choose(found, "t1ce", named=word).series.first.series_number
    with pytest.raises(InputError, match="override-not-found"):
        choose(found, "t1ce", named="#7")


def test_a_reformat_is_taken_when_a_person_names_it(tmp_path):
    write_series(tmp_path, edit=FAULTY["derived"])
    found = candidates(scan_folder(tmp_path), SALT)

    with pytest.raises(InputError, match="derived"):
        choose(found, "t1ce")
    assert found[0] == choose(found, "t1ce", named="#5")


def test_a_folder_of_one_series_names_it(tmp_path):
    """Without words it is taken as what the manifest's column says; a certain FLAIR is no T1CE."""
    write_series(tmp_path / "plain", SeriesDescription="", ContrastBolusAgent="")
    write_series(tmp_path / "flair", "flair")
    plain, flair = (candidates(scan_folder(tmp_path / name), SALT) for name in ("plain", "flair"))

    assert plain[0] == choose(plain, "t1ce")
    with pytest.raises(InputError, match="sequence-not-found"):
        choose(flair, "t1ce")


def test_echoes_and_grids_of_one_series_are_told_apart(tmp_path):
    def two_echoes(slices):
        late = good_slices(seed=4, SeriesInstanceUID=slices[0].SeriesInstanceUID, EchoTime=30)
        for number, ds in enumerate(late, start=7):
            ds.InstanceNumber = number
        return [*slices, *late]

    write_series(tmp_path, edit=two_echoes)

    assert [6, 6] == [len(s.headers) for s in scan_folder(tmp_path).series]


def test_dates_become_days(tmp_path):
    write_series(tmp_path / "in" / "1")
    write_series(tmp_path / "in" / "2", seed=1, StudyInstanceUID="1.2.9", StudyDate="20240712")

    report = convert_folder(tmp_path / "in", tmp_path / "out", salt=SALT)

    assert [(1, 0), (2, 41)] == sorted((o.study, o.days) for o in report.outcomes)
    assert "2024" not in str(report.as_dict())


def test_a_full_disk_stops_everything_with_its_name(tmp_path, monkeypatch):
    write_series(tmp_path / "in")

    def full(*_args: object):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("client.disk.os.fsync", full)

    with pytest.raises(InputError, match="disk-full"):
        convert_folder(tmp_path / "in", tmp_path / "out", salt=SALT)

    assert [] == [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    write_series(tmp_path / "in")

    def closed(*_args: object, **_more: object):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("client.disk.os.open", closed)

    with pytest.raises(InputError, match="folder-read-only"):
        convert_folder(tmp_path / "in", tmp_path / "out", salt=SALT)


def test_what_a_killed_run_left_is_swept(tmp_path):
    write_series(tmp_path / "in")
    left = tmp_path / "out" / ".scratch" / "dicom-x" / "copies" / "000001.dcm"
    left.parent.mkdir(parents=True)
    left.touch()

    convert_folder(tmp_path / "in", tmp_path / "out", salt=SALT)

    assert not (tmp_path / "out" / ".scratch").exists()


def test_written_images_hold_voxels_and_affine_alone(tmp_path):
    write_series(tmp_path / "in")
    report = convert_folder(tmp_path / "in", tmp_path / "out", salt=SALT)

    path = tmp_path / "out" / report.outcomes[0].outputs[0]
    header = nibabel.load(path).header

    assert all(not header[name].tobytes().strip(b"\0") for name in ("descrip", "aux_file", "intent_name", "db_name"))
    assert [] == list(header.extensions)
    assert b"nii" not in path.read_bytes()[:60]  # no file name in the gzip header


def test_a_series_saved_as_one_file_of_garbage_is_not_lost(tmp_path):
    save(good_slices()[0], tmp_path / "in" / "one")
    (tmp_path / "in" / "DICOMDIR").write_bytes(Path(tmp_path / "in" / "one").read_bytes()[:140])

    scan = scan_folder(tmp_path / "in")

    assert scan.balanced
    assert 2 == scan.files
