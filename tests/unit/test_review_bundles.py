"""Bundles that go out to a reader and come back: one bad case is named, a broken seal refuses the whole."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from client.image_files import write_image
from client.site import Site, open_site
from client.tasks.case_keys import open_queue
from client.tasks.review_bundle import export_batch, import_bundle
from client.tasks.review_gate import drop_if_changed, reader_files
from common.errors import InputError, Refused, StudyError
from tests.review_site import draw_more, unpack, write_review_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(write_review_site(tmp_path, 4))


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

    assert code == error.value.code
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
