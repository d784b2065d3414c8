"""Readers, bundles and gates: what is refused, by which name, and that nothing of a label reaches a reader."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric
from typer.testing import CliRunner

from client.cli import app
from client.image_files import write_image
from client.ingest.manifest import read_manifest
from client.review.check_mask import check_mask, describe_mask, read_mask
from client.review.compare import compare, surface_distance_95
from client.site import Site, open_site
from client.store.feature_store import FeatureStore
from client.store.prepared_store import PreparedStore
from client.tasks.case_keys import feature_keys, open_queue
from client.tasks.prepare_cohort import prepare_cohort
from client.tasks.reader_agreement import reader_agreement
from client.tasks.review_bundle import export_batch, import_bundle
from client.tasks.review_case import accept_case, finish_case, listing, open_case, reject_case, reopen_case, work_file
from client.tasks.review_gate import drop_if_changed, reader_files
from client.tasks.review_page import ReaderDesk
from common.errors import InputError, Refused, StudyError
from tests.review_site import TO_NATIVE, draw_more, enter_all, on_grid, prepared_case, read_whole, write_review_site

ROOT = Path(__file__).parents[2]
LABEL_WORDS = (b"altered", b"sequencing", b"thalamus", b"safety", b"h3_method")
SHORT_WORDS = (b"K27", b"H3", b"score", b"wild")  # looked for in text: noise holds any three letters


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(write_review_site(tmp_path, 4))


def keys_of(site: Site) -> dict[str, str]:
    return feature_keys(read_manifest(site.settings.manifest, site="hospital"), site)


def code_of(error: pytest.ExceptionInfo) -> str:
    return error.value.code


# --- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI's own
def test_comparison_agrees_with_monai():
    """Dice and HD95 of MONAI on random blobs, to rounding."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        one, other = (np.zeros((20, 24, 28), np.uint8) for _ in range(2))
        for mask in (one, other):
            z, y, x = rng.integers(4, 10, 3)
            mask[z : z + 7, y : y + 8, x : x + 9] = 1
        tensors = [torch.from_numpy(m)[None, None].float() for m in (one, other)]
        spacing = (3.0, 2.0, 1.0)
        theirs = HausdorffDistanceMetric(percentile=95)(*tensors, spacing=spacing).item()
        assert surface_distance_95(one > 0, other > 0, spacing) == pytest.approx(theirs, abs=1e-5)
        images = [sitk.GetImageFromArray(m) for m in (one, other)]
        assert compare(*images).dice == pytest.approx(DiceMetric()(*tensors).item(), abs=1e-6)


def test_an_empty_mask_has_no_surface():
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    assert np.isnan(surface_distance_95(empty, full, (1, 1, 1)))
    assert 0.0 == surface_distance_95(full, full, (1, 1, 1))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a: a * 0, "mask-empty"),
        (lambda a: a * 4, "mask-not-binary"),
        (lambda a: np.where(np.cumsum(a).reshape(a.shape) <= 20, a, 0), "mask-volume"),
        (lambda a: a[:, :, ::-1].copy(), "mask-flipped"),
        (lambda a: np.roll(a, 26, axis=0), "mask-outside-brain"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(site: Site, change, code: str):
    opened = open_case(site, "case-00", "R1")
    image = sitk.ReadImage(str(opened.mask))
    changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)))
    changed.CopyInformation(image)
    write_image(changed, opened.mask)

    with pytest.raises(InputError) as error:
        finish_case(site, "case-00", reader="R1", edit="major", minutes=5)

    assert code == code_of(error)
    assert "in_review" == open_queue(site).find("case-00").state


def test_a_mask_on_another_grid_is_refused_before_it_is_read(tmp_path: Path):
    grid = on_grid(np.zeros((72, 84, 72), np.uint8))
    for number, change in enumerate(({"SetOrigin": (0.0, 0.0, 0.0)}, {"SetSpacing": (2.0, 2.0, 2.1)})):
        other = sitk.Image(grid)
        for setter, value in change.items():
            getattr(other, setter)(value)
        write_image(other, tmp_path / f"{number}.nii.gz")
        with pytest.raises(InputError, match="mask-other-grid"):
            read_mask(tmp_path / f"{number}.nii.gz", grid, pseudonym="p")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "0.nii.gz").read_bytes()[:200])
    with pytest.raises(InputError, match=r"mask-unreadable|mask-other-grid"):
        read_mask(tmp_path / "cut.nii.gz", grid, pseudonym="p")


def test_odd_shapes_are_flagged(site: Site):
    opened = open_case(site, "case-00", "R1")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(opened.mask)))
    array[30, 30:32, 30:32] = 1
    for z in (20, 24, 28):
        array[z, 60, 30] = 1
    mask = on_grid(array)

    assert 5 == describe_mask(mask)[1]
    flags = check_mask(mask, opened.files, pseudonym="p").flags

    assert ("5 separate parts", "4 part(s) of a single slice") == flags


# --- one reader ----------------------------------------------------------------------------------------------------


def test_untouched_and_touched_masks_must_be_meant(site: Site):
    opened = open_case(site, "case-00", "R1")
    with pytest.raises(InputError, match="mask-unchanged"):
        finish_case(site, "case-00", reader="R1", edit="minor", minutes=1)
    draw_more(opened.mask)
    with pytest.raises(InputError, match="mask-changed"):
        finish_case(site, "case-00", reader="R1", edit="none", minutes=1)

    case = finish_case(site, "case-00", reader="R1", edit="major", minutes=6.5, note="oedema")

    reading = case.readings[0]
    assert ("reviewed", 0, 6.5) == (case.state, reading.removed_voxels, reading.minutes)
    assert 0.3 < reading.dice < 1
    assert reading.volume_change_ml == pytest.approx(reading.added_voxels * 0.008)
    assert (site.settings.cache / "review" / "pictures" / "case-00-1.png").stat().st_size > 5000


def test_a_second_reader_sees_neither_the_first_mask_nor_the_first_judgement(tmp_path: Path):
    site = open_site(write_review_site(tmp_path, 1, second_reader_fraction=1.0))
    first = open_case(site, "case-00", "R1")
    draw_more(first.mask)
    finish_case(site, "case-00", reader="R1", edit="minor", minutes=3)
    with pytest.raises(InputError, match="second-reading-missing"):
        accept_case(site, "case-00", by="R1")
    with pytest.raises(InputError, match="same-reader-twice"):
        open_case(site, "case-00", "R1")

    second = open_case(site, "case-00", "R2")

    assert second.mask.read_bytes() == first.files.automatic.read_bytes()
    assert [] == listing(site)[0]["readings"]
    draw_more(second.mask, 1)
    finish_case(site, "case-00", reader="R2", edit="minor", minutes=3)
    assert 0.6 < listing(site)[0]["agreement"] < 1
    accepted = accept_case(site, "case-00", by="R3", reading=2)
    assert accepted.readings[1].mask == accepted.accepted_mask


def test_two_readers_at_the_page(tmp_path: Path):
    """R2 finds the case that R1 has read, begins at the automatic mask, and hears nothing of R1."""
    site = open_site(write_review_site(tmp_path, 2, second_reader_fraction=1.0))
    one, two = ReaderDesk(site, "R1"), ReaderDesk(site, "R2")
    automatic = reader_files(site, open_queue(site).find("case-00").material.preparation).automatic.read_bytes()
    for name in ("case-00", "case-01"):
        one.open(name)
        draw_more(work_file(site, open_queue(site).find(name), "R1"), 1)
        assert "reviewed" == one.accept(name, {"edit": "minor", "minutes": 2, "note": "R1 was here"})["state"]
        assert name not in [row["case"] for row in one.queue()["cases"]]

    told = json.dumps([two.queue(), two.open("case-00")])

    assert automatic == two.image("case-00", "mask")
    assert not [word for word in ("R1", "was here", "minor", "second") if word in told]
    draw_more(work_file(site, open_queue(site).find("case-00"), "R2"), 2)
    two.accept("case-00", {"edit": "major", "minutes": 1})
    two.open("case-01")
    two.accept("case-01", {"edit": "none", "minutes": 1})
    found = reader_agreement(site).as_dict()
    assert (2, 2) == (found["drawn_for_two_readers"], found["read_twice"])
    assert all(0.5 < row["dice"] < 1 and ["R1", "R2"] == row["readers"] for row in found["cases"])
    assert -1 < found["volume_icc"] < 1
    assert [] == two.queue()["cases"]
    assert accept_case(site, "case-00", by="R1", reading=2).state == "accepted"


@pytest.mark.parametrize("reader", ["", "R 1", "../R1", "R1\n", "x" * 33])
def test_a_reader_is_a_short_plain_name(site: Site, reader: str):
    with pytest.raises(InputError, match="review-entry-invalid"):
        open_case(site, "case-00", reader)


# --- what may enter a study ----------------------------------------------------------------------------------------


def test_only_accepted_masks_have_a_key_and_another_mask_is_another_key(site: Site):
    assert {} == keys_of(site)
    read_whole(site, "case-00")
    one = keys_of(site)
    assert ["case-00"] == list(one)

    reopen_case(site, "case-00", by="R1", reason="too small")
    assert {} == keys_of(site)
    draw_more(open_case(site, "case-00", "R1").mask, 2)
    finish_case(site, "case-00", reader="R1", edit="major", minutes=2)
    accept_case(site, "case-00", by="R1")

    assert keys_of(site)["case-00"] != one["case-00"]


def test_other_input_files_take_the_acceptance_away(site: Site):
    """At once in what a study sees; and in the queue when the site prepares again."""
    read_whole(site, "case-00")
    (site.settings.manifest.parent / "0.nii.gz").write_bytes(b"another examination")
    assert {} == keys_of(site)

    enter_all(site)

    case = open_queue(site).find("case-00")
    assert ("needs_review", "", ()) == (case.state, case.accepted_mask, case.readings)
    reasons = [line.event.reason for line in open_queue(site).history() if line.event.kind == "invalidated"]
    assert ["input files or preparation settings changed"] == reasons


@pytest.mark.parametrize("which", ["brain", "automatic"])
def test_an_edited_brain_or_automatic_mask_invalidates(site: Site, which: str):
    case = read_whole(site, "case-00")
    preparation = case.material.preparation
    draw_more(getattr(reader_files(site, preparation), which))

    after = drop_if_changed(case, preparation, site, open_queue(site))

    assert ("invalidated", f"the {which} mask changed") == (after.state, after.reason)
    assert not PreparedStore(site.settings.cache).has(preparation)
    assert {} == keys_of(site)


@pytest.mark.slow
def test_prepare_goes_on_where_it_was_killed_and_measures_the_accepted_mask(tmp_path: Path):
    """The input files here are no images: whatever succeeds was taken from the finished steps."""
    site = open_site(write_review_site(tmp_path, 2))
    for name in ("log.jsonl", "log.head"):
        (site.settings.cache / "review" / name).unlink()  # killed between the images and the queue

    assert ["to_review", "to_review"] == [o.status for o in prepare_cohort(site, pictures=False).outcomes]
    reading = read_whole(site, "case-01").readings[0]
    report = prepare_cohort(site)

    assert ["to_review", "prepared"] == [o.status for o in report.outcomes]
    store = FeatureStore(site.settings.cache)
    values = dict(zip(site.protocol.radiomics.names(), store.radiomics(keys_of(site)["case-01"]), strict=True))
    assert values["T1CE_original_shape_VoxelVolume"] / 1000 == pytest.approx(reading.volume_ml, rel=1e-6)
    assert "accepted it, blind to the label" in report.methods


def test_a_drive_that_is_away_takes_no_review_away(site: Site):
    """The case fails by name while its image cannot be read; when it is back the acceptance stands."""
    read_whole(site, "case-00")
    keys, image = keys_of(site), site.settings.manifest.parent / "0.nii.gz"
    away = image.rename(image.with_suffix(".away"))

    assert "quarantined" == prepare_cohort(site).outcomes[0].status

    away.rename(image)
    assert "accepted" == open_queue(site).find("case-00").state
    assert keys == keys_of(site)


def test_prepare_counts_every_case_and_waits_for_the_reader(site: Site):
    """Nothing to compute here: waiting, rejected and excluded cases are all in the report."""
    reject_case(site, "case-01", by="R1", reason="motion")
    text = site.settings.manifest.read_text().splitlines()
    text[4] = text[4].replace("thalamus", "other")
    site.settings.manifest.write_text("\n".join(text) + "\n")

    outcomes = {o.pseudonym: (o.status, o.reason) for o in prepare_cohort(site).outcomes}

    assert outcomes == {
        "case-00": ("to_review", "needs_review"),
        "case-01": ("rejected", "motion"),
        "case-02": ("to_review", "needs_review"),
        "case-03": ("excluded", "not in a midline location"),
    }


def test_a_kept_mask_that_was_changed_on_the_disk_is_never_used(site: Site):
    case = read_whole(site, "case-00")
    draw_more(site.settings.cache / "review" / "masks" / f"{case.accepted_mask}.nii.gz")

    with pytest.raises(Refused, match="mask-changed"):
        open_queue(site).masks.get(case.accepted_mask)


def test_prepared_cases_come_back_as_they_were(tmp_path: Path):
    case, store = prepared_case(1), PreparedStore(tmp_path)
    store.save("k", case)

    back = store.load("k", "")

    assert (case.history, case.quality) == (back.history, back.quality)
    for name in ("t1ce", "flair", "brain_mask", "tumour_mask"):
        one, other = getattr(case, name), getattr(back, name)
        assert np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))
        assert one.GetOrigin() == pytest.approx(other.GetOrigin(), abs=1e-4)
    point = (12.3, -4.5, 33.0)
    assert back.to_native.TransformPoint(point) == pytest.approx(TO_NATIVE.TransformPoint(point), abs=1e-9)


def test_a_case_saved_by_half_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk in the middle of a case."""
    store, case = PreparedStore(tmp_path), prepared_case(1)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(sitk, "WriteTransform", full)
        with pytest.raises(RuntimeError, match="No space"):
            store.save("k", case)
    assert not store.has("k")
    store.save("k", case)
    assert store.has("k")


# --- bundles -------------------------------------------------------------------------------------------------------


def unpack(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def pack(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def edited(data: bytes, folder: Path, change) -> bytes:
    path = folder / "edit.nii.gz"
    path.write_bytes(data)
    image = sitk.ReadImage(str(path))
    write_image(change(image), path)
    return path.read_bytes()


def exported(site: Site, folder: Path) -> tuple[dict[str, bytes], str, list[str]]:
    """Contents with every case filled in as slightly enlarged; the bundle's folder; its cases."""
    bundle = export_batch(site, batch=3, reader="R7", folder=folder)
    contents, root = unpack(bundle.path), bundle.path.name.removesuffix(".tgz")
    for case in bundle.cases:
        name = f"{root}/{case}/mask.nii.gz"
        contents[name] = edited(contents[name], folder, lambda image: sitk.BinaryDilate(image, [1, 1, 1]))
    table = "case,edit,minutes,note\r\n" + "".join(f"{case},minor,4,\r\n" for case in bundle.cases)
    contents[f"{root}/readings.csv"] = table.encode()
    return contents, root, list(bundle.cases)


def test_a_bundle_goes_out_and_comes_back(site: Site, tmp_path: Path):
    contents, root, cases = exported(site, tmp_path)
    contents[f"{root}/readings.csv"] = (
        f"case;edit;minutes;note\r\n{cases[0]};Minor;4,5;fine\r\n{cases[1]};;;\r\n{cases[2]};none;1;\r\n".encode()
    )

    returned = {r.pseudonym: r for r in import_bundle(site, pack(tmp_path / "back.tgz", contents))}

    assert ["reviewed", "left open", "set aside"] == [returned[case].status for case in cases]
    assert returned[cases[2]].reason.startswith("mask-changed")
    reading = open_queue(site).find(cases[0]).readings[0]
    assert ("R7", "minor", 4.5, "fine") == (reading.reader, reading.edit, reading.minutes, reading.note)


def _regrid(image: sitk.Image) -> sitk.Image:
    return sitk.Resample(image, [36, 42, 36], sitk.Transform(), sitk.sitkNearestNeighbor, image.GetOrigin(), [4.0] * 3)


BAD_CASES = {
    "renamed": ("bundle-file-missing", lambda c, n, _: c.update({n.replace("mask.", "final."): c.pop(n)})),
    "added": ("bundle-file-unknown", lambda c, n, _: c.update({n.replace("mask.", "mask2."): b"x"})),
    "image changed": ("bundle-file-changed", lambda c, n, _: c.update({n.replace("mask", "flair"): b"x"})),
    "re-gridded": ("mask-other-grid", lambda c, n, f: c.update({n: edited(c[n], f, _regrid)})),
    "other labels": ("mask-not-binary", lambda c, n, f: c.update({n: edited(c[n], f, lambda i: i * 2)})),
    "empty": ("mask-empty", lambda c, n, f: c.update({n: edited(c[n], f, lambda i: i * 0)})),
    "truncated": ("mask-unreadable", lambda c, n, _: c.update({n: c[n][:400]})),
    "not an image": ("mask-unreadable", lambda c, n, _: c.update({n: b""})),
}


@pytest.mark.parametrize("name", BAD_CASES)
def test_one_bad_case_of_a_bundle_is_named_and_the_others_are_taken(site: Site, tmp_path: Path, name: str):
    code, spoil = BAD_CASES[name]
    contents, root, cases = exported(site, tmp_path)
    spoil(contents, f"{root}/{cases[1]}/mask.nii.gz", tmp_path)

    returned = {r.pseudonym: r for r in import_bundle(site, pack(tmp_path / "back.tgz", contents))}

    assert ["reviewed", "set aside", "reviewed"] == [returned[case].status for case in cases]
    assert returned[cases[1]].reason.startswith(code)
    assert cases[1] in returned[cases[1]].reason
    assert "in_review" == open_queue(site).find(cases[1]).state


def test_masks_exchanged_between_cases_are_noticed(tmp_path: Path):
    """On one atlas grid only the overlap tells whose mask it is."""
    site = open_site(write_review_site(tmp_path, 2))
    contents, root, cases = exported(site, tmp_path)
    names = [f"{root}/{case}/mask.nii.gz" for case in cases]
    store, files = tmp_path / "hospital", [open_queue(site).find(c).material.preparation for c in cases]
    assert store.exists()
    mask = reader_files(site, files[1]).read("automatic")
    moved = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(mask), (-24, 6), axis=(2, 0)))
    moved.CopyInformation(mask)
    write_image(moved, reader_files(site, files[1]).automatic)
    contents[names[0]] = edited(contents[names[0]], tmp_path, lambda _: moved)

    returned = {r.pseudonym: r for r in import_bundle(site, pack(tmp_path / "back.tgz", contents))}

    assert returned[cases[0]].reason.startswith("mask-of-another-case")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda c, r: c.update({"../../evil.txt": b"x"}), "bundle-unsafe"),
        (lambda c, r: c.update({"/etc/evil.txt": b"x"}), "bundle-unsafe"),
        (lambda c, r: c.update({f"{r}/a/../../../evil": b"x"}), "bundle-unsafe"),
        (lambda c, r: c.pop(f"{r}/seal.json"), "bundle-seal-broken"),
        (lambda c, r: c.update({f"{r}/seal.json": c[f"{r}/seal.json"].replace(b"R7", b"R8")}), "bundle-seal-broken"),
        (lambda c, r: c.update({f"{r}/seal.json": b"[]"}), "bundle-seal-broken"),
    ],
)
def test_a_bundle_that_was_tampered_with_is_refused_whole(site: Site, tmp_path: Path, spoil, code: str):
    contents, root, cases = exported(site, tmp_path)
    spoil(contents, root)
    before = {p for p in tmp_path.rglob("*") if "evil" in p.name}

    with pytest.raises(StudyError) as error:
        import_bundle(site, pack(tmp_path / "back.tgz", contents))

    assert code == code_of(error)
    assert before == {p for p in tmp_path.rglob("*") if "evil" in p.name}
    assert {"in_review"} == {open_queue(site).find(case).state for case in cases}


def test_links_truncation_and_another_sites_bundle_are_refused(site: Site, tmp_path: Path):
    contents, root, _ = exported(site, tmp_path)
    path = pack(tmp_path / "cut.tgz", contents)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match="bundle-unreadable"):
        import_bundle(site, path)
    with tarfile.open(tmp_path / "link.tgz", "w:gz") as archive:
        member = tarfile.TarInfo(f"{root}/case-00/mask.nii.gz")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(Refused, match="bundle-unsafe"):
        import_bundle(site, tmp_path / "link.tgz")
    other = open_site(write_review_site(tmp_path / "other", 4))
    with pytest.raises(Refused, match="bundle-seal-broken"):
        import_bundle(other, pack(tmp_path / "back.tgz", contents))


def test_a_bundle_of_images_that_changed_meanwhile_is_outdated(site: Site, tmp_path: Path):
    contents, _, cases = exported(site, tmp_path)
    number = int(cases[0][-2:])
    (site.settings.manifest.parent / f"{number}.nii.gz").write_bytes(b"another examination")
    files = reader_files(site, open_queue(site).find(cases[0]).material.preparation)
    draw_more(files.automatic)
    drop_if_changed(open_queue(site).find(cases[0]), files.t1ce.parent.name, site, open_queue(site))

    returned = {r.pseudonym: r for r in import_bundle(site, pack(tmp_path / "back.tgz", contents))}

    assert "set aside" == returned[cases[0]].status
    assert "invalidated" == open_queue(site).find(cases[0]).state


# --- blinding ------------------------------------------------------------------------------------------------------


def seen_by_a_reader(site: Site, folder: Path) -> dict[str, bytes]:
    """Every byte that a reader gets, on every way, unpacked."""
    bundle = export_batch(site, batch=4, reader="R1", folder=folder)
    seen = {name: gzip.decompress(d) if name.endswith(".gz") else d for name, d in unpack(bundle.path).items()}
    seen["the archive itself"] = gzip.decompress(bundle.path.read_bytes())
    seen["list"] = CliRunner().invoke(app, ["review", "list", "--json", "--site", str(site_file(site))]).output.encode()
    seen["csv"] = CliRunner().invoke(app, ["review", "list", "--csv", "--site", str(site_file(site))]).output.encode()
    desk = ReaderDesk(site, "R1")
    for case in bundle.cases:
        opened = open_case(site, case, "R1")
        seen[f"commands of {case}"] = json.dumps(opened.commands).encode()
        seen[f"folder of {case}"] = "".join(p.name for p in opened.files.t1ce.parent.iterdir()).encode()
        for path in opened.files.t1ce.parent.iterdir():
            data = path.read_bytes()
            seen[f"{case} {path.name}"] = gzip.decompress(data) if path.suffix == ".gz" else data
        for name in ("t1ce", "flair"):
            seen[f"page {case} {name}"] = desk.image(case, name)
    seen["page"] = json.dumps(desk.queue()).encode()
    return seen


def site_file(site: Site) -> Path:
    return site.settings.manifest.with_name("site.yaml")


def test_a_reader_sees_no_label(site: Site, tmp_path: Path):
    """No word of the manifest's clinical columns in any byte; and two classes give byte-identical surroundings."""
    seen = seen_by_a_reader(site, tmp_path / "out")

    assert len(seen) > 30
    for place, data in seen.items():
        for word in LABEL_WORDS + (SHORT_WORDS if data.isascii() and b"\0" not in data else ()):
            assert word.lower() not in data.lower(), (place, word)


def test_swapping_all_labels_changes_nothing_a_reader_sees(tmp_path: Path):
    """The order, the sample for two readers, the files: all independent of the label."""
    one = open_site(write_review_site(tmp_path / "a", 6, second_reader_fraction=0.3))
    other_file = write_review_site(tmp_path / "b", 6, second_reader_fraction=0.3)
    manifest = other_file.with_name("manifest.csv")
    text = manifest.read_text().replace(",not_altered,", ",X,").replace(",altered,", ",not_altered,")
    manifest.write_text(text.replace(",X,", ",altered,"))
    other = open_site(other_file)

    assert listing(one) == listing(other)
    rows = [{c.pseudonym: c.material.second_reader for c in open_queue(s).cases().values()} for s in (one, other)]
    assert rows[0] == rows[1]
    assert 2 == sum(rows[0].values())


def test_doubtful_cases_come_first_then_uncertain_ones(site: Site):
    queue = open_queue(site)
    material = queue.find("case-00").material
    queue.enter("case-09", material.model_copy(update={"flags": ("brain mask of 500 ml",), "uncertainty": 0.0}))

    order = [case.pseudonym for case in queue.ordered(lambda p: 0.5)]

    assert ["case-09", "case-03", "case-02", "case-01", "case-00"] == order


@pytest.mark.parametrize("name", ["DMG-001", "h3k27m_4", "GBM.7", "wildtype2"])
def test_a_pseudonym_that_tells_is_refused(site: Site, name: str):
    with pytest.raises(InputError, match="pseudonym-tells"):
        open_queue(site).enter(name, open_queue(site).find("case-00").material)


# --- kills, and a disk that cannot be written ----------------------------------------------------------------------

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from client.review.events import Opened, PutBack
queue = ReviewQueue(Path(sys.argv[1]), lambda: datetime.now(UTC))
print("ready", flush=True)
while True:
    queue.record("case-00", Opened(reader="R1"), PutBack())
"""


def test_killed_at_any_moment_the_log_stays_whole(site: Site):
    """SIGKILL a writer again and again; a second writer at the same time; the chain holds and work goes on."""
    folder = site.settings.cache / "review"
    for wait_s in (0.02, 0.07, 0.13):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for writer in writers:
            writer.stdout.readline()
        time.sleep(wait_s)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        lines = open_queue(site).history()
        assert [*range(1, len(lines) + 1)] == [line.number for line in lines]
        case = open_queue(site).find("case-00")
        assert case.state in ("needs_review", "in_review")
    assert "in_review" == open_case(site, "case-00", "R1").case.state


def test_a_full_disk_decides_nothing(site: Site, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(Refused, match="review-log-unwritable"):
            reject_case(site, "case-00", by="R1", reason="x")

    assert "needs_review" == open_queue(site).find("case-00").state
    assert "rejected" == reject_case(site, "case-00", by="R1", reason="x").state


def test_commands_end_with_the_codes_of_their_faults(site: Site):
    """Exit 2 for a mistake, one JSON object on standard output for a success."""

    def run(*words: str):
        return CliRunner().invoke(app, ["review", *words, "--site", str(site_file(site))])

    assert "review-order" == run("done", "case-00", "--reader", "R1", "--edit", "none", "--minutes", "1").exception.code
    opened = json.loads(run("open", "case-00", "--reader", "R1", "--no-launch", "--json").stdout)
    assert opened["itksnap"].startswith("itksnap -g ")
    done = json.loads(run("done", "case-00", "--reader", "R1", "--edit", "none", "--minutes", "1", "--json").stdout)
    assert (1.0, "reviewed") == (done["dice"], done["state"])
    assert "accepted" == json.loads(run("accept", "case-00", "--by", "R1", "--json").stdout)["state"]
    listed = json.loads(run("list", "--json").stdout)
    assert {"needs_review": 3, "accepted": 1} == listed["counts"]
    assert 11 == len(json.loads(run("history", "--json").stdout)["events"])
