"""De-identification after PS3.15's basic profile: no text that a header may hold is found anywhere afterwards."""

from __future__ import annotations

import csv
import gzip
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from client import cli
from client.ingest.dicom.deidentify import deidentify, pseudonymous_uid
from client.ingest.dicom.pseudonym import patient_pseudonym
from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.dicom.scan import scan_folder
from client.ingest.dicom.stage import stage
from client.ingest.dicom.vendors import scanner_name
from client.ingest.manifest import COLUMNS, read_manifest
from client.ingest.read_case import read_case
from client.site import Site, open_site
from client.store.salt import site_salt
from client.tasks.prepare_cohort import prepare_cohort
from common.errors import InputError
from tests.dicom_files import good_slices, write_series

MARK = "MARKERPERSON"
SALT = b"1" * 32
# What a reader needs to know the series by; its own text is kept out of outputs all the same.
FUNCTIONAL = {"SeriesDescription": f"Ax T1 +C {MARK}", "ContrastBolusAgent": f"Gd {MARK}"}
CODES = {
    "SpecificCharacterSet",
    "Modality",
    "PhotometricInterpretation",
    "BurnedInAnnotation",
    "QualityControlImage",
    "PatientSex",
}
LONG = {"ST", "LT", "UT", "UC"}
ROOT = Path(__file__).parents[2]


def _values() -> dict[str, str]:
    """Every single-valued text of the data dictionary, with the mark in it; dates are one day of 1911."""
    values: dict[str, str] = {}
    for tag, (vr, multiplicity, _name, _retired, keyword) in DicomDictionary.items():
        if not keyword or tag >> 16 in {0x0000, 0x0002, 0xFFFE} or keyword in CODES or multiplicity[0] != "1":
            continue
        if vr in {"PN", "LO", "SH", "AE", "CS"} | LONG:
            values[keyword] = MARK
        elif vr == "UR":
            values[keyword] = f"http://{MARK}.org"
        elif vr in {"DA", "DT", "TM"}:
            values[keyword] = {"DA": "19110203", "DT": "19110203040506", "TM": "040506"}[vr]
    return values


def _plant(slices: list[Dataset], kind: str = "t1ce") -> list[Dataset]:
    """Marks in every text, in a nested sequence, in private elements, in UIDs and in the preamble."""
    values = _values()
    words = FUNCTIONAL if kind == "t1ce" else {"SeriesDescription": f"FLAIR {MARK}", "ContrastBolusAgent": ""}
    for ds in slices:
        for keyword, value in {**values, **words}.items():
            setattr(ds, keyword, value)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", MARK]
        ds.ManufacturerModelName, ds.Manufacturer = f"Prisma {MARK}", f"SIEMENS {MARK}"
        ds.PatientID, ds.PatientName = f"{MARK}-ID", f"{MARK}^GIVEN"
        ds.ScanningSequence = ["SE"]
        inner = Dataset()
        inner.PatientName, inner.TextValue, inner.FrameComments = MARK, MARK, MARK
        inner.ReferencedSOPInstanceUID = ds.SOPInstanceUID
        ds.ReferencedImageSequence = [inner]
        ds.RequestAttributesSequence = [inner]
        ds.ContrastBolusAgentSequence = [inner]
        for creator in ("SIEMENS CSA HEADER", f"{MARK} VENDOR"):
            block = ds.private_block(0x0029, creator, create=True)
            block.add_new(0x10, "OB", f"{MARK} ".encode())
            block.add_new(0x20, "LO", MARK)
    return slices


def _write(folder: Path, kind: str = "t1ce", *, cut: bool = False, **options: Any) -> None:
    """A series full of marks, written without a look at what is valid."""
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        write_series(folder, kind, edit=lambda s: _plant(s[:2] + s[3:] if cut else s, kind), **options)
    finally:
        pydicom.config.settings.writing_validation_mode = before


def _mark_is_in(folder: Path) -> list[str]:
    """Names of files, folders and contents that hold the mark or the date, gunzipped where they are zipped."""
    found = []
    for path in folder.rglob("*"):
        raw = path.read_bytes() if path.is_file() else b""
        whole = raw + (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else b"")
        told = str(path.relative_to(folder)).encode() + whole
        if MARK.encode() in told.upper() or b"19110203" in told or b"1911-02-03" in told:
            found.append(path.name)
    return found


def test_the_mark_is_really_there(tmp_path):
    """Else the tests below could not fail."""
    assert len(_values()) > 1500
    _write(tmp_path)

    assert 6 == len(_mark_is_in(tmp_path))


def test_nothing_of_the_patient_reaches_the_converter(tmp_path):
    """The copies that other programs see: their texts are gone, but for the words of closed lists."""
    _write(tmp_path / "in")
    (series,) = scan_folder(tmp_path / "in").series

    stage(series, tmp_path / "copies", SALT)

    assert [] == _mark_is_in(tmp_path / "copies")
    ds = pydicom.dcmread(tmp_path / "copies" / "000001.dcm")
    assert ("YES", "113100") == (ds.PatientIdentityRemoved, ds.DeidentificationMethodCodeSequence[0].CodeValue)


def test_convert_lets_no_name_out(tmp_path):
    """Files, names, JSON, screen: through the command itself."""
    _write(tmp_path / "in" / MARK)
    _write(tmp_path / "in" / MARK, "flair")
    _write(tmp_path / "in" / MARK, seed=3, cut=True)  # is refused
    broken = tmp_path / "in" / MARK / "t1ce-0-003"
    ran = CliRunner().invoke(cli.app, ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--json"])
    broken.write_bytes(broken.read_bytes()[:-100])
    again = CliRunner().invoke(cli.app, ["convert", str(tmp_path / "in"), str(tmp_path / "out2")])

    told = json.loads(ran.stdout)
    assert {"converted": 2, "refused": 1} == told["counts"], told
    assert {"t1ce", "flair"} == {s["kind"] for s in told["series"] if s["status"] == "converted"}
    assert [] == _mark_is_in(tmp_path / "out") + _mark_is_in(tmp_path / "out2")
    for text in (ran.output, ran.stderr, again.output, again.stderr):
        assert MARK not in text.upper()
        assert "1911" not in text


def _site_of(folder: Path) -> Site:
    """Two cases in folders whose very names are the patient's; case b has no FLAIR."""
    place = folder / "in" / MARK
    _write(place / "a")
    _write(place / "a", "flair")
    _write(place / "b")
    protocol = ROOT / "site_configs" / "protocols" / "recommended.yaml"
    cells = {**dict.fromkeys(COLUMNS, ""), "label": "altered"}
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for name in "ab":
            writer.writerow({**cells, "pseudonym": name, "t1ce_path": place / name, "flair_path": place / name})
    settings = {"name": "s", "protocol": str(protocol), "manifest": "manifest.csv", "cache": "cache", "workers": 1}
    (folder / "site.yaml").write_text(yaml.safe_dump(settings))
    return open_site(folder / "site.yaml")


def test_reading_a_case_lets_no_name_out(tmp_path):
    site = _site_of(tmp_path)
    cache = site.settings.cache
    rows = read_manifest(site.settings.manifest, site="s")
    dicom = DicomFolders(salt=site_salt(cache), scratch=cache / ".scratch")

    case = read_case(rows[0], dicom=dicom)
    with pytest.raises(InputError, match="sequence-not-found") as caught:
        read_case(rows[1], dicom=dicom)

    assert (10, 12, 6) == case.t1ce.GetSize() == case.flair.GetSize()
    assert MARK not in caught.value.explain().upper()
    assert [] == _mark_is_in(cache)


@pytest.mark.slow
def test_preparing_lets_no_name_into_the_cache(tmp_path):
    """Features, pictures, fingerprints, quarantine list and everything else that a preparation writes."""
    site = _site_of(tmp_path)

    report = prepare_cohort(site)

    assert ["prepared", "quarantined"] == [o.status for o in report.outcomes]
    assert len(list(site.settings.cache.rglob("*"))) > 6
    assert [] == _mark_is_in(site.settings.cache)
    assert MARK not in str(report).upper()


def test_workers_that_ask_at_once_get_one_salt(tmp_path):
    # In a replay of 254 cases a second worker once read the file while it was still empty, and lost its case.
    with ThreadPoolExecutor(16) as workers:
        for round_number in range(200):
            folder = tmp_path / str(round_number)
            assert 1 == len(set(workers.map(site_salt, [folder] * 16)))


def test_the_salt_is_for_this_account_only_and_stays(tmp_path):
    first = site_salt(tmp_path / "cache")

    assert first == site_salt(tmp_path / "cache")
    assert 0o600 == stat.S_IMODE((tmp_path / "cache" / "salt").stat().st_mode)
    assert first != site_salt(tmp_path / "other")


def test_pseudonyms_depend_on_patient_and_site(tmp_path):
    write_series(tmp_path / "1", patient="P1")
    write_series(tmp_path / "2", patient="P2")
    one, two = (scan_folder(tmp_path / n).series[0].first for n in "12")

    names = {patient_pseudonym(h, salt) for h in (one, two) for salt in (SALT, b"2" * 32)}

    assert 4 == len(names)
    assert not any("P1" in name or "P2" in name for name in names)


def test_uids_stay_consistent_and_pixels_stay(tmp_path):
    ds = good_slices()[0]
    twin = good_slices()[1]
    pixels, instance = ds.PixelData, str(ds.SOPInstanceUID)
    for one in (ds, twin):
        one.file_meta = pydicom.dataset.FileMetaDataset()
        deidentify(one, SALT)

    assert (
        ds.SeriesInstanceUID
        == twin.SeriesInstanceUID
        == pseudonymous_uid(str(good_slices()[0].SeriesInstanceUID), SALT)
    )
    assert (pixels, pseudonymous_uid(instance, SALT)) == (ds.PixelData, ds.SOPInstanceUID)
    assert pseudonymous_uid(generate_uid(), SALT) != ds.SOPInstanceUID


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (("SIEMENS", "Prisma", 3.0), "Siemens Prisma 3.0T"),
        (("GE MEDICAL SYSTEMS", "DISCOVERY MR750w", 3.0), "GE MR750w 3.0T"),
        (("Philips Medical Systems", "Ingenia Elition X", 3.0), "Philips Ingenia Elition 3.0T"),
        (("Dr. Miller's", "Miller MR", 1.5), "other other 1.5T"),
    ],
)
def test_scanners_are_named_from_a_closed_list(told, expected):
    assert expected == scanner_name(*told)


def test_numbers_of_the_profile_go_too():
    ds = good_slices()[0]
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.PatientWeight, ds.PatientSize, ds.PatientAge = 71, 1.8, "054Y"

    deidentify(ds, SALT)

    assert not any(name in ds for name in ("PatientWeight", "PatientSize", "PatientAge", "PatientBirthDate"))


def test_private_numbers_that_scale_voxels_stay():
    ds = good_slices()[0]
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    block.add_new(0x0E, "FL", 0.5)
    block.add_new(0x11, "LO", MARK)

    deidentify(ds, SALT)

    private = [element.value for element in ds if element.tag.is_private]
    assert np.array_equal(["Philips MR Imaging DD 001", 0.5], private)
