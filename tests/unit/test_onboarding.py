"""A hospital joins: init, check and card, from DICOM, BIDS or NIfTI and a spreadsheet; every number adds up."""

from __future__ import annotations

import csv
import json
import shutil
import socket
import stat
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook
from typer.testing import CliRunner

from client import cli
from client.ingest.manifest import COLUMNS, EXCLUSIONS, read_manifest
from client.site import open_site, require_ethics
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.fingerprints import FingerprintBook
from client.tasks.check_site import check_site
from client.tasks.flow_diagram import flow_diagram
from client.tasks.init_site import Sources, init_site
from client.tasks.site_card import LOCATIONS, render_card, safe_table, what_leaves
from common.config.egress import MESSAGES
from common.errors import InputError, Refused, StudyError
from server.workflow import ANSWERS
from tests.dicom_files import write_series

PROTOCOL = Path(__file__).parents[2] / "site_configs" / "protocols" / "recommended.yaml"


def _dicom(folder: Path) -> Path:
    """P1 is whole, P2 has two T1CE, P3 has no FLAIR."""
    write_series(folder / "x" / "1", patient="P1")
    write_series(folder / "x" / "1", "flair", patient="P1")
    write_series(folder / "y", patient="P2", seed=1)
    write_series(folder / "y", patient="P2", seed=2, SeriesNumber=8)
    write_series(folder / "y", "flair", patient="P2")
    write_series(folder / "z", patient="P3")
    (folder / "notes.txt").write_text("hello")
    return folder


def _sheet(path: Path) -> Path:
    """As a hospital's Excel has it: numbers, a real date, somebody without images."""
    book = Workbook()
    sheet = book.active
    sheet.append(["patient_id", "label", "tissue_date", "location", "treated_before_scan", "age_years"])
    sheet.append(["P1", "altered", "2024-06-20", "thalamus", "no", 31])
    sheet.append(["P2", "not_altered", "2024-06-02", "brainstem", "no", 55.0])
    sheet.append(["P9", "altered", None, "pineal", "no", 12])
    book.save(path)
    book.close()
    return path


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return {row["pseudonym"]: row for row in csv.DictReader(file)}


def test_init_from_dicom_and_a_spreadsheet(tmp_path):
    sources = Sources(dicom=_dicom(tmp_path / "in"), sheet=_sheet(tmp_path / "s.xlsx"), key_list=tmp_path / "key.csv")

    report = init_site(tmp_path / "site", name="st-elsewhere", protocol=str(PROTOCOL), sources=sources).as_dict()

    with (tmp_path / "key.csv").open(newline="") as file:
        key = {row["patient_id"]: row["pseudonym"] for row in csv.DictReader(file)}
    rows = _rows(tmp_path / "site")
    one = rows[key["P1"]]
    assert {"P1", "P2", "P3"} == set(key)
    assert ("altered", "19", "thalamus", "31", "female") == tuple(
        one[c] for c in ("label", "scan_to_tissue_days", "location", "age_years", "sex")
    )
    assert ("Siemens Prisma 3.0T", True) == (one["scanner"], one["t1ce_series"].startswith("s-"))
    assert {key["P2"]: ["t1ce: ambiguous-series"], key["P3"]: ["flair: sequence-not-found"]} == report["to_decide"]
    assert {"rows": 3, "rows_without_images": 1, "cases_without_row": 1} == report["sheet"]
    assert {"not-dicom": 1} == report["files_in_no_series"]
    assert 0o600 == stat.S_IMODE((tmp_path / "key.csv").stat().st_mode)
    text = (tmp_path / "site" / "manifest.csv").read_text() + json.dumps(report)
    assert not any(word in text for word in ("P1", "P2", "P3", "2024", "1970", "Test"))


def test_init_writes_a_site_file_that_opens_and_never_overwrites(tmp_path):
    init_site(tmp_path, name="st-elsewhere", protocol=str(PROTOCOL), sources=Sources())

    site = open_site(tmp_path / "site.yaml")

    assert ("st-elsewhere", ("ethics_id", "consent_basis", "approval_date")) == (
        site.settings.name,
        site.settings.missing_ethics(),
    )
    assert list(COLUMNS) == (tmp_path / "manifest.csv").read_text().split()[0].split(",")
    with pytest.raises(Refused, match="already-there"):
        init_site(tmp_path, name="other", protocol=str(PROTOCOL), sources=Sources())
    with pytest.raises(Refused, match="ethics-missing"):
        require_ethics(site)


def _image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=(5, 6, 7))), str(path))


def _bids(folder: Path) -> Path:
    for subject, session in (("01", "a"), ("01", "b"), ("02", "a")):
        stem = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}"
        _image(folder / f"{stem}_ce-gad_T1w.nii.gz", 1)
        _image(folder / f"{stem}_T1w.nii.gz", 2)
        if (subject, session) != ("01", "a"):
            _image(folder / f"{stem}_FLAIR.nii.gz", 3)
    _image(folder / "derivatives/manual/sub-02/ses-a/anat/sub-02_ses-a_label-tumour_mask.nii.gz")
    _image(folder / "derivatives/manual/sub-02/ses-a/anat/sub-02_ses-a_label-brain_mask.nii.gz")
    (folder / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t34\tF\nsub-02\tn/a\tM\n")
    return folder


def test_init_from_bids(tmp_path):
    init_site(tmp_path / "s", name="s", protocol=str(PROTOCOL), sources=Sources(bids=_bids(tmp_path / "bids")))

    rows = _rows(tmp_path / "s")

    assert "sub-01_ses-b_ce-gad_T1w.nii.gz" == Path(rows["sub-01"]["t1ce_path"]).name  # the session that is whole
    assert ("34", "female") == (rows["sub-01"]["age_years"], rows["sub-01"]["sex"])
    assert ("", "male") == (rows["sub-02"]["age_years"], rows["sub-02"]["sex"])
    assert "sub-02_ses-a_label-tumour_mask.nii.gz" == Path(rows["sub-02"]["mask_path"]).name


def test_init_from_nifti_folders(tmp_path):
    for name in ("DOE_JOHN", "ROE_JANE"):
        for image in ("t1ce", "flair", "tumour_mask", "t1"):
            _image(tmp_path / "in" / name / f"{image}.nii.gz")

    report = init_site(tmp_path / "s", name="s", protocol=str(PROTOCOL), sources=Sources(nifti=tmp_path / "in"))

    assert (2, 2) == (len(_rows(tmp_path / "s")), report.as_dict()["both_sequences_certain"])
    assert {"t1ce.nii.gz"} == {Path(row["t1ce_path"]).name for row in _rows(tmp_path / "s").values()}
    assert not any("DOE" in name for name in _rows(tmp_path / "s"))


def test_every_fault_of_a_spreadsheet_at_once(tmp_path):
    (tmp_path / "s.csv").write_text("patient_id;colour;tissue_date\nP1;red;2024-06-20\nP1;blue;June\n")

    with pytest.raises(InputError) as caught:
        init_site(
            tmp_path / "s",
            name="s",
            protocol=str(PROTOCOL),
            sources=Sources(dicom=_dicom(tmp_path / "in"), sheet=tmp_path / "s.csv"),
        )

    for word in ("'colour' is unknown", "'P1' stands there twice", "'June' is no date"):
        assert word in caught.value.local
    assert "P1" not in str(caught.value)


def _site(folder: Path, rows: list[dict[str, str]], **settings: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    columns = [*COLUMNS, "exclude"]
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({**dict.fromkeys(columns, ""), "label": "altered", **row} for row in rows)
    lines = {"name": "s", "protocol": str(PROTOCOL), "manifest": "manifest.csv", **settings}
    (folder / "site.yaml").write_text("\n".join(f"{k}: {v}" for k, v in lines.items()))
    return folder / "site.yaml"


def _mixed(folder: Path) -> list[dict[str, str]]:
    """One case of each fate."""
    _dicom(folder / "in")
    for name in ("t1ce", "flair"):
        _image(folder / "n" / f"{name}.nii.gz")
    (folder / "n" / "empty.nii.gz").touch()
    nifti = {"t1ce_path": "n/t1ce.nii.gz", "flair_path": "n/flair.nii.gz"}
    return [
        {"pseudonym": "nifti", **nifti, "label": "not_altered", "scanner": "GE MR750"},
        {"pseudonym": "dicom", "t1ce_path": "in/x", "flair_path": "in/x"},
        {"pseudonym": "treated", **nifti, "treated_before_scan": "yes"},
        {"pseudonym": "artefact", **nifti, "exclude": "severe_artefact"},
        {"pseudonym": "lone", **nifti, "flair_path": ""},
        {"pseudonym": "empty", **nifti, "flair_path": "n/empty.nii.gz"},
        {"pseudonym": "gone", **nifti, "t1ce_path": "n/gone.nii.gz"},
        {"pseudonym": "two", "t1ce_path": "in/y", "flair_path": "in/y"},
        {"pseudonym": "others", "t1ce_path": "in/z", "flair_path": "in/x"},
    ]


def test_check_counts_every_case_once(tmp_path):
    site = open_site(_site(tmp_path, _mixed(tmp_path)))

    found = check_site(site).as_dict()

    assert (9, 6, 2, True) == (found["cases"], found["eligible"], found["ready"], found["balanced"])
    aside = {case["pseudonym"]: case["code"] for case in found["set_aside"]}
    assert {
        "empty": "empty-file", "gone": "file-missing", "two": "ambiguous-series", "others": "patients-differ",
    } == aside  # fmt: skip
    assert {"T1CE or FLAIR is missing": 1, "severe artefact": 1, "treated before the scan": 1} == found["excluded"]
    assert {"dicom": 1, "nifti": 1} == found["sequences"]["flair"]["sources"]
    assert {"Siemens Prisma 3.0T": 2} == found["scanners_of_the_images"]
    assert 2 == found["estimate"]["cases_to_prepare"]
    assert found["estimate"]["disk_gb"] > 0


def test_a_case_without_paths_waits_for_its_table(tmp_path):
    """Features from a table need no image; until they are there the case is set aside, and no folder is searched."""
    path = _site(tmp_path, [{"pseudonym": "tabled"}, {"pseudonym": "forgotten"}])
    site = open_site(path)
    row = read_manifest(site.settings.manifest, site="s")[1]
    store, book = FeatureStore(site.settings.cache), FingerprintBook(site.settings.cache)
    key = store.key(book.look_up(row, lambda _: "of the table"), site.protocol.feature_fingerprint())
    store.save(key, CaseFeatures(np.zeros(1702), np.zeros(0), "from a table", (), {}))
    book.save()

    found = check_site(site).as_dict()

    assert [("forgotten", "sequence-missing")] == [(c["pseudonym"], c["code"]) for c in found["set_aside"]]
    assert (1, 1, True) == (found["ready"], found["prepared"], found["balanced"])


def test_the_flow_diagram_adds_up(tmp_path):
    found = check_site(open_site(_site(tmp_path, _mixed(tmp_path)))).as_dict()

    lines = flow_diagram(found).splitlines()

    def number(start: str) -> int:
        return next(int(line[52:58]) for line in lines if line.startswith(start))

    assert number("cases in") == number(" |-- excluded") + number("eligible")
    assert number("eligible") == number(" |-- set aside") + number(" `-- ready")
    inner = [int(line[52:58]) for line in lines if line.startswith(" |     ")]
    assert sum(inner) == number(" |-- excluded") + number(" |-- set aside")


def test_the_commands_open_no_connection(tmp_path, monkeypatch):
    def refuse(*_args: object, **_more: object):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    path = _site(tmp_path, _mixed(tmp_path))

    ran = CliRunner().invoke(cli.app, ["check", "--site", str(path), "--json"])
    carded = CliRunner().invoke(cli.app, ["card", "--site", str(path), "--out", str(tmp_path / "card.html")])
    shown = CliRunner().invoke(cli.app, ["check", "--site", str(path)])

    assert (2, 0, 2) == (ran.exit_code, carded.exit_code, shown.exit_code), carded.output
    assert 9 == json.loads(ran.stdout)["cases"]
    assert "ready to prepare" in shown.stderr
    assert (tmp_path / "card.html").read_text().startswith("<!doctype html>")


def test_the_manifest_may_be_a_workbook(tmp_path):
    path = _site(tmp_path, _mixed(tmp_path))
    book = Workbook()
    with (tmp_path / "manifest.csv").open(newline="") as file:
        for line in csv.reader(file):
            book.active.append([None if cell == "" else cell for cell in line])
    book.save(tmp_path / "manifest.xlsx")
    book.close()

    expected = read_manifest(open_site(path).settings.manifest, site="s")

    assert expected == read_manifest(tmp_path / "manifest.xlsx", site="s")


def test_a_broken_workbook_is_named(tmp_path):
    (tmp_path / "m.xlsx").write_bytes(b"PK no")

    with pytest.raises(InputError, match="manifest-unreadable"):
        read_manifest(tmp_path / "m.xlsx", site="s")


def test_the_card_names_every_message_and_no_small_count(tmp_path):
    rows = [
        {"pseudonym": f"c{i}", "t1ce_path": "a", "flair_path": "b", "label": "altered" if i < 15 else "not_altered",
         "location": "thalamus" if i < 27 else "pineal", "sex": ("male", "female")[i % 2], "age_years": str(20 + i)}
        for i in range(30)
    ]  # fmt: skip
    site = open_site(_site(tmp_path, rows, ethics_id="2021-548", consent_basis="consent", approval_date="2021-05-01"))

    page = render_card(site, today="2026-01-01")

    assert sorted(ANSWERS) == sorted(MESSAGES) == sorted(what_leaves())
    assert all(words and words.split(",")[0][:60] in page for words in what_leaves().values())
    assert '<td>altered</td><td class="n">15</td>' in page
    for location in ("thalamus", "pineal"):  # 27 would give away the 3
        assert f'<td>{location}</td><td class="n">–</td>' in page
    assert not any(f'"n">{small}</td>' in page for small in range(10))
    assert "http" not in page.replace("http-equiv", "")
    assert not any(f"c{i}<" in page for i in range(30))


@given(st.lists(st.integers(0, 40), min_size=2, max_size=9))
def test_withheld_counts_cannot_be_worked_out(counts):
    """What is hidden together holds at least 10 people, or everything is hidden."""
    levels = LOCATIONS[: len(counts)]

    table = safe_table("t", levels, (name for name, n in zip(levels, counts, strict=True) for _ in range(n)))

    hidden = [n for name, n in zip(levels, counts, strict=True) if table.shown[name] is None]
    assert all(n >= 10 for name, n in zip(levels, counts, strict=True) if table.shown[name] is not None)
    assert not hidden or sum(hidden) >= 10 or len(hidden) == len(counts)


def test_exclusion_words_are_one_list():
    """The schema's words and the diagram's."""
    from client.ingest.manifest import _Row

    words = set(_Row.model_fields["exclude"].annotation.__args__) - {""}

    assert set(EXCLUSIONS) == words


def test_a_site_with_an_unreadable_folder_says_so(tmp_path):
    write_series(tmp_path / "in")
    shutil.rmtree(tmp_path / "in")

    with pytest.raises(StudyError, match="folder-missing"):
        init_site(tmp_path / "s", name="s", protocol=str(PROTOCOL), sources=Sources(dicom=tmp_path / "in"))
