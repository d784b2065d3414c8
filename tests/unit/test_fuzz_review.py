"""What comes back from a reader, malformed: masks, the page's requests, entries, DICOM objects.  Each is refused with a
coded error, and nothing is written but in the site's own review folder.

    make fuzz      thousands of examples instead of some dozens
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import socket
import stat
import struct
import tarfile
import tempfile
import threading
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from client.image_files import write_image
from client.review.bundle import open_bundle
from client.review.check_mask import read_mask
from client.review.dicom_seg import write_segmentation
from client.review.native import native_grid, read_series
from client.review.page import serve_page
from client.site import open_site
from client.tasks.case_keys import open_queue
from client.tasks.review_bundle import export_batch, import_bundle
from client.tasks.review_case import open_case, reopen_case
from client.tasks.review_dicom import read_drawn
from client.tasks.review_page import ReaderDesk
from common.errors import InputError
from simulation.cohort.scanner import SCANNERS
from simulation.cohort.write_dicom import write_series
from tests.review_site import write_review_site
from tests.unit.test_fuzz import PLANTED, VALUES, fuzzed, judged, noise_of

GRID = sitk.Image([5, 6, 7], sitk.sitkUInt8)
WAYS_OUT = ("../../x", "/etc/passwd", "..", ".", "", "\0", "case-00/../../x", "case-00\\..\\x", "%2e%2e%2fx", PLANTED)


@cache
def raw_mask(pixel: int = sitk.sitkUInt8) -> bytes:
    """An uncompressed NIfTI file on GRID."""
    with tempfile.TemporaryDirectory() as folder:
        write_image(sitk.Cast(GRID, pixel), Path(folder) / "m.nii")
        return (Path(folder) / "m.nii").read_bytes()


@cache
def zip_with_a_link() -> bytes:
    """A member that is a symbolic link out of the folder, one whose name leads out, one with NUL in its name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("mask.nii")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, f"../../{PLANTED}")
        for name in ("../../x", "/etc/x", "a\0b"):
            archive.writestr(zipfile.ZipInfo(name), b"x")
    return stream.getvalue()


@st.composite
def drawn(draw, good: bytes):
    """A mask's file as a page or a viewer might send it: torn, changed in its header, of another kind, or no image."""
    how = draw(st.sampled_from(["header", "noise", "packed", "torn gzip", "kind", "strange", "whole"]))
    if how == "header":
        place, kind = draw(st.sampled_from([(0, "i"), (40, "8h"), (70, "h"), (72, "h"), (76, "8f"), (108, "f"), (112, "f"),
                                            (252, "h"), (254, "h"), (280, "12f")]))  # fmt: skip
        count = int(kind[:-1] or 1)
        numbers = st.sampled_from([0, 1, -1, 2, 3, 5, 6, 7, 8, 16, 128, 1792, 32767, -32768])
        told = struct.pack(f"<{kind}", *draw(st.lists(numbers, min_size=count, max_size=count)))
        return good[:place] + told + good[place + len(told) :]
    if how == "packed":
        return gzip.compress(draw(noise_of(good)), 1)
    if how == "torn gzip":
        return draw(noise_of(gzip.compress(good, 1)))
    if how == "kind":
        pixel = draw(st.sampled_from([sitk.sitkFloat32, sitk.sitkInt16, sitk.sitkComplexFloat32, sitk.sitkVectorUInt8]))
        return raw_mask(pixel)
    if how == "strange":
        return draw(
            st.sampled_from([zip_with_a_link(), pickle.dumps({"mask": PLANTED}), b"", b"\x1f\x8b", b"\x1f\x8b\x08"])
        )
    return draw(noise_of(good)) if how == "noise" else good


@fuzzed(0.1, fast=120)
@given(drawn(raw_mask()), st.sampled_from(["mask.nii", "mask.nii.gz", "mask.mha", "mask"]))
def test_masks(data, name):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        found = judged(lambda: read_mask(Path(folder) / name, GRID, pseudonym="case-1"))
        assert found is None or set(np.unique(sitk.GetArrayFromImage(found)).tolist()) <= {0, 1}
        assert [name] == [path.name for path in Path(folder).rglob("*")]


# The page, as the browser speaks to it


class Served:
    """A site with one case, which R1 has open at a page that runs."""

    def __init__(self, folder: Path) -> None:
        self.home, self.site = folder, open_site(write_review_site(folder, 1))
        there = threading.Event()

        def ready(address: str, server: object) -> None:
            self.port, self.token, self.server = server.server_address[1], address.split("/")[3], server
            there.set()

        arguments = {"desk": ReaderDesk(self.site, "R1"), "ready": ready}
        self.thread = threading.Thread(target=serve_page, kwargs=arguments)
        self.thread.start()
        assert there.wait(10)
        self.open()
        self.others = self.outside()

    def open(self) -> None:
        """Again, where an example ended the review."""
        if open_queue(self.site).find("case-00").state in ("accepted", "rejected"):
            reopen_case(self.site, "case-00", by="R1", reason="fuzzed")
        self.mask = open_case(self.site, "case-00", "R1").mask

    def outside(self) -> dict[str, bytes]:
        """All files but those of the review."""
        review = self.site.settings.cache / "review"
        files = [path for path in self.home.rglob("*") if path.is_file() and not path.is_relative_to(review)]
        return {str(path): path.read_bytes() for path in files}

    def ask(self, path: str, length: str, body: bytes) -> tuple[int, bytes]:
        """Status and body; whatever was sent, there is an answer."""
        head = f"POST /{self.token}/{path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Length: {length}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as line:
            line.sendall(head.encode("latin-1", "replace") + body)
            line.shutdown(socket.SHUT_WR)
            with line.makefile("rb") as answer:
                status = answer.readline().split()
                size = 0
                while (header := answer.readline().strip()) != b"":
                    size = int(header.partition(b":")[2]) if header.lower().startswith(b"content-length") else size
                return int(status[1]), answer.read(size)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    found = Served(tmp_path_factory.mktemp("page"))
    yield found
    found.server.shutdown()
    found.thread.join(10)


ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "edit": st.one_of(st.sampled_from(["none", "minor", "major", PLANTED]), VALUES),
        "minutes": st.one_of(st.sampled_from([1, 10**400, float("nan"), float("inf"), -1]), VALUES),
        "note": st.one_of(VALUES, st.sampled_from(["\ud800", "x" * 501, "\0"])),
        "reason": st.one_of(VALUES, st.sampled_from(["\ud800", "", "x" * 501])),
        "out": st.one_of(st.booleans(), VALUES),
        "confirmed": VALUES,
    },
)
BODIES = st.one_of(
    ENTRIES.map(json.dumps).map(str.encode),
    VALUES.map(json.dumps).map(str.encode),
    st.sampled_from(
        [b"[" * 100_000, b"9" * 5000, b'{"edit":' * 5000, pickle.dumps({"edit": "none"}), zip_with_a_link()]
    ),
    st.binary(max_size=200),
)
LENGTHS = st.sampled_from(["right", "right", "right", "right", "more", "-1", "9" * 30, "x", "", "1e3", "²"])


@fuzzed(0.02, fast=60)
@given(st.sampled_from(["case-00", "case-00", "case-00", *WAYS_OUT]), st.sampled_from(["open", "mask", "accept", "send-back", "x"]),
       LENGTHS, st.data())  # fmt: skip
def test_what_a_browser_posts(page, name, what, length, data):
    """200 for what can be; else 400 or 409 with a code, 404 or 413; the page goes on, and nothing lies elsewhere."""
    page.open()
    body = data.draw(drawn(page.mask.read_bytes()) if what == "mask" else BODIES)
    size = {"right": len(body), "more": len(body) + 9}.get(length, length)

    # A body of a length that is refused is not read, and a connection closed on it may lose the answer.
    status, told = page.ask(f"api/{name}/{what}", str(size), body if size != length else b"")

    assert status in (200, 400, 404, 409, 413), (status, told)
    if status in (400, 409):
        assert json.loads(told)["code"]
    assert page.others == page.outside()
    assert not [p for p in page.home.rglob("*") if p.is_symlink()]


# A bundle that the site itself sealed, with what a reader may change


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """The site's folder with two cases out, and the contents of their bundle."""
    home = tmp_path_factory.mktemp("bundles")
    site = open_site(write_review_site(home, 2))
    bundle = export_batch(site, batch=2, reader="R1", folder=home / "out")
    with tarfile.open(bundle.path) as archive:
        return home / "hospital", {m.name: archive.extractfile(m).read() for m in archive if m.isreg()}


@pytest.mark.parametrize("data", [zip_with_a_link(), pickle.dumps({"b/seal.json": PLANTED})], ids=["zip", "pickle"])
def test_what_is_no_tar_is_no_bundle(data, tmp_path):
    (tmp_path / "b.tgz").write_bytes(data)

    with pytest.raises(InputError, match="bundle-unreadable"):
        open_bundle(tmp_path / "b.tgz", key=b"k" * 32, into=tmp_path / "into")

    assert ["b.tgz"] == [path.name for path in tmp_path.iterdir()]


@fuzzed(0.01, fast=20)
@given(st.lists(ENTRIES, max_size=3), st.booleans(), st.data())
def test_bundles_that_come_back(sealed, rows, damaged, data):
    """One case's mask and the table are the reader's: a bad case is set aside by name, the whole never fails otherwise."""
    home, contents = sealed
    root = next(iter(contents)).split("/")[0]
    mask = f"{root}/case-00/mask.nii.gz"
    table = ["case,edit,minutes,note"]
    for number, row in enumerate(rows):
        case = data.draw(st.sampled_from([f"case-0{number}", "case-00", *WAYS_OUT]))
        table.append(",".join([case, *(str(row.get(column, "")) for column in ("edit", "minutes", "note"))]))
    text = "\r\n".join(table).encode("utf-8", "surrogatepass")
    changed = {**contents, f"{root}/readings.csv": text}
    if damaged:
        changed[mask] = data.draw(drawn(gzip.decompress(contents[mask])))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(home, Path(folder) / "hospital")
        site = open_site(Path(folder) / "hospital" / "site.yaml")
        with tarfile.open(Path(folder) / "b.tgz", "w:gz", compresslevel=1) as archive:
            for name, content in changed.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

        returned = judged(lambda: import_bundle(site, Path(folder) / "b.tgz"))

        for case in returned or ():
            assert case.status != "set aside" or case.reason
        review = site.settings.cache / "review"
        names = {p.name for p in Path(folder).rglob("*") if p.is_file() and not p.is_relative_to(review)}
        assert names == {
            "b.tgz",
            *(p.name for p in home.rglob("*") if p.is_file() and not p.is_relative_to(home / "cache/review")),
        }
        assert not list(review.glob("returned-*"))


# DICOM objects of another viewer


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    """A small native series, its grid, and what a viewer made of it: a SEG and an RTSTRUCT."""
    folder = tmp_path_factory.mktemp("viewer")
    image = sitk.Image([12, 14, 7], sitk.sitkInt16) + 100
    write_series(image, folder / "t1ce", scanner=next(iter(SCANNERS.values())), sequence="t1ce", pseudonym="one")
    sources = read_series(list((folder / "t1ce").iterdir()), pseudonym="p")
    grid = native_grid(sources, pseudonym="p")
    square = grid[:] + 0
    square[3:6, 3:6, 2:4] = 1
    write_segmentation(square, sources, folder / "seg.dcm", version="1", reader="R1")
    return sources, grid, [(folder / "seg.dcm").read_bytes(), structures(grid, sources[0].FrameOfReferenceUID)]


def structures(grid: sitk.Image, frame: str) -> bytes:
    """An RTSTRUCT of one square contour."""
    found, roi, around, contour = Dataset(), Dataset(), Dataset(), Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = RTStructureSetStorage
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = generate_uid(entropy_srcs=["fuzz"])
    found.Modality = "RTSTRUCT"
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID, roi.ROIGenerationAlgorithm = 1, "GTV", frame, ""
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    places = [grid.TransformIndexToPhysicalPoint(place) for place in ((3, 3, 2), (6, 3, 2), (6, 6, 2), (3, 6, 2))]
    contour.ContourData = [f"{value:.4f}" for place in places for value in place]
    around.ReferencedROINumber, around.ContourSequence = 1, Sequence([contour])
    found.StructureSetROISequence, found.ROIContourSequence = Sequence([roi]), Sequence([around])
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, found, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning"
)  # the libraries tell of every odd value
@fuzzed(0.05, fast=60)
@given(st.integers(0, 1), st.booleans(), st.sampled_from(["", "GTV", PLANTED]), st.data())
def test_what_another_viewer_drew(viewer, which, whole, region, data):
    sources, grid, made = viewer
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.dcm"
        path.write_bytes(made[which] if whole else data.draw(noise_of(made[which])))
        found = judged(lambda: read_drawn(path, sources, grid, region=region, pseudonym="case-1"))
        assert found is None or found.GetSize() == grid.GetSize()
        assert found is not None or not whole or (which, region) == (1, PLANTED)
        assert ["drawn.dcm"] == [path.name for path in Path(folder).rglob("*")]
