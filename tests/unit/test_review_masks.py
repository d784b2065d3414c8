"""Masks that readers drew: compared as MONAI does, and refused by name where they cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric

from client.image_files import write_image
from client.review.check_mask import check_mask, describe_mask, read_mask
from client.review.compare import compare, surface_distance_95
from client.site import Site, open_site
from client.tasks.case_keys import open_queue
from client.tasks.review_case import finish_case, open_case
from common.errors import InputError, Refused
from tests.review_site import draw_more, on_grid, read_whole, write_review_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(write_review_site(tmp_path, 4))


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

    assert code == error.value.code
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


def test_a_kept_mask_that_was_changed_on_the_disk_is_never_used(site: Site):
    case = read_whole(site, "case-00")
    draw_more(site.settings.cache / "review" / "masks" / f"{case.accepted_mask}.nii.gz")

    with pytest.raises(Refused, match="mask-changed"):
        open_queue(site).masks.get(case.accepted_mask)
