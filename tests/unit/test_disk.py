"""Files are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from client.disk import write_whole
from client.image_files import write_image
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.prepared_store import PreparedStore
from client.tasks.convert_folder import convert_folder
from common.disk_faults import disk_faults
from common.errors import InputError
from tests.dicom_files import write_series
from tests.review_site import prepared_case

ROOT = Path(__file__).parents[2]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_whole(path, b"old")

    def full(*_args: object):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("client.disk.os.fsync", full)
    with pytest.raises(InputError, match="disk-full"):
        write_whole(path, b"new")

    assert b"old" == path.read_bytes()
    assert ["a.json"] == [p.name for p in tmp_path.iterdir()]


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """Hospitals of a simulation are threads, and share a cache."""
    path = tmp_path / "a.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_whole(path, str(i).encode() * 1000), range(200)))

    found = path.read_text()
    assert found == found[: len(found) // 1000] * 1000
    assert ["a.json"] == [p.name for p in tmp_path.iterdir()]


def test_what_a_killed_writer_left_is_swept_after_an_hour(tmp_path):
    old, young = (tmp_path / f".a.json.{writer}.part" for writer in ("12-1", "13-1"))
    for left, age_s in ((old, 4000), (young, 60)):
        left.touch()
        os.utime(left, (time.time() - age_s, time.time() - age_s))

    write_whole(tmp_path / "a.json", b"new")

    assert {"a.json", young.name} == {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("number", "code"), [(28, "disk-full"), (122, "disk-full"), (13, "folder-read-only"), (30, "folder-read-only")]
)
def test_the_systems_words_become_the_studys(number, code):
    with pytest.raises(InputError, match=code) as caught, disk_faults("cache"):
        raise OSError(number, "/data/DOE^JOHN")

    assert "DOE" not in caught.value.explain()


@contextmanager
def _quota(largest_bytes: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow further, as a full disk or a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["image.nii.gz", "image.nii"])
def test_half_an_image_is_never_left(tmp_path, name):
    """ITK writes half a file without a word where the disk is full."""
    old = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.float32))
    write_image(old, tmp_path / name)
    noise = sitk.GetImageFromArray(np.random.default_rng(0).random((40, 40, 40), np.float32))

    with _quota(20_000), pytest.raises(InputError, match="disk-full"):
        write_image(noise, tmp_path / name)

    assert [name] == [path.name for path in tmp_path.iterdir()]
    assert old.GetSize() == sitk.ReadImage(str(tmp_path / name)).GetSize()
    write_image(noise, tmp_path / name)
    assert noise.GetSize() == sitk.ReadImage(str(tmp_path / name)).GetSize()


def test_a_full_disk_leaves_no_half_case(tmp_path):
    """Neither of images nor of features; the same call goes on when there is room."""
    prepared, features = PreparedStore(tmp_path / "one"), FeatureStore(tmp_path / "two")
    values = CaseFeatures(np.zeros(9), np.ones(50_000, np.float32), "", (), {})
    for store, thing, cache in ((prepared, prepared_case(0), "one"), (features, values, "two")):
        with _quota(20_000), pytest.raises(InputError, match="disk-full"):
            store.save("key", thing)

        assert not store.has("key")
        assert [] == [path for path in (tmp_path / cache).rglob("*") if path.is_file()]
        store.save("key", thing)
        assert store.has("key")


def test_other_errors_stay_what_they_are():
    with pytest.raises(FileNotFoundError), disk_faults("cache"):
        raise FileNotFoundError(2, "x")


def test_a_conversion_killed_in_the_middle_is_finished_by_the_next(tmp_path):
    """SIGKILL as soon as the first image is there: what is there is whole, and the next run makes the rest."""
    for seed in range(12):
        write_series(tmp_path / "in" / str(seed), seed=seed, SeriesNumber=seed + 1)
    code = (
        "from pathlib import Path\nfrom client.tasks.convert_folder import convert_folder\n"
        f"convert_folder(Path({str(tmp_path / 'in')!r}), Path({str(tmp_path / 'out')!r}), salt=b'0' * 32)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        while process.poll() is None and not list((tmp_path / "out").rglob("*.nii.gz")):
            time.sleep(0.01)
        process.kill()
    whole = [nibabel.load(path) for path in (tmp_path / "out").rglob("*.nii.gz")]
    shapes = [np.asanyarray(image.dataobj).shape for image in whole]

    report = convert_folder(tmp_path / "in", tmp_path / "out", salt=b"0" * 32)

    assert 1 <= len(shapes) < 12
    assert {(10, 12, 6)} == set(shapes)
    assert ["converted"] * 12 == [outcome.status for outcome in report.outcomes]
    files = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert 12 == len(files), files
