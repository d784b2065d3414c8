"""Bad input: each kind gives one clear error that names case, field and cure, and nothing of a patient."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from client.case import CaseRow
from client.ingest.manifest import COLUMNS, read_manifest
from client.ingest.read_case import read_case
from common.errors import InputError

SHAPE = (8, 9, 10)


def _image(path: Path, array: np.ndarray, spacing: float = 1.0) -> str:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(path))
    return str(path)


def _row(folder: Path, **changes: str) -> CaseRow:
    """A good case, but for what is changed."""
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 2:5, 2:5] = 1
    paths = {
        "t1ce_path": _image(folder / "t1ce.nii.gz", rng.normal(size=SHAPE).astype(np.float32)),
        "flair_path": _image(folder / "flair.nii.gz", rng.normal(size=SHAPE).astype(np.float32)),
        "mask_path": _image(folder / "mask.nii.gz", mask),
        "brain_mask_path": "",
    }
    return CaseRow("case-1", **{**paths, **changes}, altered=True, age_years=None, sex="", location="", scanner="",
                   h3_method="", split="")  # fmt: skip


def _truncated(folder: Path) -> str:
    path = folder / "broken.nii.gz"
    _image(path, np.random.default_rng(1).normal(size=SHAPE).astype(np.float32))
    path.write_bytes(path.read_bytes()[:400])
    return str(path)


BAD = {
    "sequence-missing": ("flair_path", lambda _: ""),
    "file-missing": ("t1ce_path", lambda folder: str(folder / "JOHN_DOE.nii.gz")),
    "image-unreadable": ("t1ce_path", _truncated),
    "image-not-finite": ("flair_path", lambda f: _image(f / "nan.nii.gz", np.full(SHAPE, np.nan, np.float32))),
    "same-image-twice": ("flair_path", lambda folder: str(folder / "t1ce.nii.gz")),
    "mask-empty": ("mask_path", lambda f: _image(f / "empty.nii.gz", np.zeros(SHAPE, np.uint8))),
    "mask-not-binary": ("mask_path", lambda f: _image(f / "four.nii.gz", np.full(SHAPE, 4, np.uint8))),
    "mask-other-grid": ("mask_path", lambda f: _image(f / "grid.nii.gz", np.ones(SHAPE, np.uint8), 2.0)),
}


def test_a_good_case_is_read(tmp_path):
    case = read_case(_row(tmp_path))

    assert case.tumour_mask is not None
    assert "case-1" not in repr(case)


def test_a_mask_that_counts_from_another_corner_is_turned(tmp_path):
    """Flipped axes with the matching direction are the same place."""
    row = _row(tmp_path)
    straight = sitk.ReadImage(row.mask_path)
    sitk.WriteImage(sitk.Flip(straight, (True, False, True)), str(tmp_path / "flipped.nii.gz"))

    mask = read_case(_row(tmp_path, mask_path=str(tmp_path / "flipped.nii.gz"))).tumour_mask

    assert np.array_equal(sitk.GetArrayFromImage(straight), sitk.GetArrayFromImage(mask))


@pytest.mark.parametrize("code", BAD)
def test_bad_images(tmp_path, code):
    field, make = BAD[code]
    row = _row(tmp_path)

    with pytest.raises(InputError) as caught:
        read_case(_row(tmp_path, **{field: make(tmp_path)}))

    error = caught.value
    assert (code, field, row.pseudonym) == (error.code, error.field, error.case)
    assert error.fix
    assert str(tmp_path) not in str(error)
    assert "JOHN" not in str(error)


def _manifest(folder: Path, rows: list[dict[str, str]], columns: list[str]) -> Path:
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _cells(**changes: str) -> dict[str, str]:
    return {
        **dict.fromkeys(COLUMNS, ""),
        "pseudonym": "a",
        "t1ce_path": "x",
        "flair_path": "y",
        "label": "altered",
        **changes,
    }


def test_every_fault_of_a_manifest_at_once(tmp_path):
    rows = [_cells(), _cells(), _cells(pseudonym="b", label="mutant"), _cells(pseudonym="c", age_years="old")]

    with pytest.raises(InputError) as caught:
        read_manifest(_manifest(tmp_path, rows, list(COLUMNS)), site="s")

    told = caught.value.explain()
    assert "stands there twice" in told
    assert "row 4, label: got 'mutant'" in told
    assert "row 5, age_years" in told
    assert "mutant" not in str(caught.value)


def test_missing_and_unknown_columns_are_named(tmp_path):
    columns = [c for c in COLUMNS if c != "label"] + ["colour"]

    with pytest.raises(InputError) as caught:
        read_manifest(_manifest(tmp_path, [], columns), site="s")

    assert "'label' is missing" in caught.value.explain()
    assert "'colour' is unknown" in caught.value.explain()


def test_exclusions_have_reasons(tmp_path):
    rows = [_cells(treated_before_scan="yes"), _cells(pseudonym="b", location="other"), _cells(pseudonym="c")]

    found = read_manifest(_manifest(tmp_path, rows, list(COLUMNS)), site="s")

    assert ["treated before the scan", "not in a midline location", ""] == [row.excluded_because for row in found]
