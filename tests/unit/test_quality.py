"""Can a prepared case be believed: measures, their limits, and the counts of the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from client.preprocess.atlas import load_atlas
from client.preprocess.quality import measure_prepared, signal_to_noise
from client.site import open_site
from client.store.prepared_store import PreparedStore
from client.store.quarantine import Quarantined, write_quarantine
from client.tasks.case_mosaic import draw_atlas, draw_mosaic
from client.tasks.case_quality import MEASURES, judge, with_mask_measures
from client.tasks.quality_page import look_at_quality, render_quality
from tests.review_site import ellipsoid, on_grid, prepared_case, write_review_site


def test_a_noisier_image_has_less_signal_to_noise():
    """Known noise on a smooth ball is found within a tenth, whatever the gain."""
    ball = ellipsoid((36, 42, 36), (30, 36, 28)) * 500.0
    rng = np.random.default_rng(0)

    for deviation in (10, 50):
        image = on_grid((ball + rng.normal(0, deviation, ball.shape)).astype(np.float32))
        assert signal_to_noise(image) == pytest.approx(500 / deviation, rel=0.1)
        assert signal_to_noise(image * 7) == pytest.approx(signal_to_noise(image), rel=1e-4)
    assert signal_to_noise(on_grid(np.zeros((8, 8, 8), np.float32))) is None


def test_a_head_beside_the_atlas_is_noticed():
    """The atlas on itself agrees in full; 20 mm aside both the anatomy and the brain's outline disagree."""
    atlas = load_atlas("mni152")
    grid = sitk.Resample(atlas.brain, [99, 117, 95], sitk.Transform(), sitk.sitkLinear, atlas.brain.GetOrigin(),
                         [2.0] * 3, atlas.brain.GetDirection())  # fmt: skip
    found = {}
    for aside_mm in (0.0, 20.0):
        move = sitk.TranslationTransform(3, (aside_mm, 0.0, 0.0))
        brain, mask = (
            sitk.Resample(image, grid, move, sitk.sitkNearestNeighbor) for image in (atlas.brain, atlas.mask)
        )
        case = replace(prepared_case(0), t1ce=brain, flair=brain, brain_mask=mask)
        found[aside_mm] = dict(measure_prepared(case, atlas))

    assert not [r for r in judge(found[0.0]).reasons if "atlas" in r]
    told = judge(found[20.0]).reasons
    assert any("does not lie well on the atlas" in reason for reason in told)
    assert any("overlap little" in reason for reason in told)
    # And one image taken for both sequences is no pair of sequences.
    assert any("agree oddly" in reason for reason in judge(found[0.0]).reasons)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (ellipsoid((48, 40, 38), (7, 7, 7)), None),
        (ellipsoid((24, 40, 38), (7, 7, 7)), "other side"),
        (ellipsoid((36, 42, 36), (34, 40, 34)), "only"),
        (ellipsoid((48, 40, 38), (1, 1, 1)), "0.1 ml"),
        (sum(ellipsoid((x, 40, 38), (2, 2, 2)) for x in (36, 42, 48, 54)) > 0, "4 separate parts"),
        (ellipsoid((36, 70, 36), (6, 6, 6)), "not bright in FLAIR"),
        (np.zeros_like(ellipsoid((1, 1, 1), (1, 1, 1))), "0.0 ml"),
    ],
    ids=["as it should be", "wrong side", "outside the brain", "too small", "scattered", "not bright", "empty"],
)
def test_an_implausible_mask_is_told(mask, told):
    case = with_mask_measures(replace(prepared_case(0), tumour_mask=on_grid(mask.astype(np.uint8)), quality=()))

    verdict = judge(dict(case.quality))

    assert ("good", "look")[told is not None] == verdict.word
    assert told is None or any(told in reason for reason in verdict.reasons)
    assert (verdict.suspicion > 1) == (told is not None)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_suspicion_is_zero_at_the_usual_and_one_at_a_limit(measure):
    assert 0 == measure.suspicion(measure.usual)
    for limit, beyond in ((measure.low, -1), (measure.high, 1)):
        if limit is not None:
            assert 1 == measure.suspicion(limit)
            assert measure.suspicion(limit + beyond) > 1
            assert "look" == judge({measure.name: limit + beyond}).word
    assert judge({}).word == "good"


def test_the_page_counts_every_case_and_shows_no_label(tmp_path: Path):
    """Listed = excluded + set aside + not yet prepared + prepared; the most suspicious first."""
    path = write_review_site(tmp_path, 5)
    site = open_site(path)
    manifest = path.with_name("manifest.csv")
    lines = manifest.read_text().splitlines()
    lines[1] = lines[1].replace("thalamus", "other")
    manifest.write_text("\n".join(lines) + "\n")
    for number in (1, 2):  # two whose images are not there
        (path.parent / f"{number}.nii.gz").write_bytes(b"another image")
    write_quarantine(
        site.settings.cache, [Quarantined("case-01", "image-unreadable", "t1ce_path", "Cut.", "Export again.")]
    )

    found = look_at_quality(site)
    page = render_quality(site, found)

    assert (5, {"not in a midline location": 1}) == (found.listed, found.excluded)
    assert ("case-02",) == found.waiting
    assert ["case-01"] == [q.pseudonym for q in found.set_aside]
    assert ["case-03", "case-04"] == sorted(case.pseudonym for case in found.cases)
    assert [c.verdict.suspicion for c in found.cases] == sorted(
        (c.verdict.suspicion for c in found.cases), reverse=True
    )
    assert "http" not in page.replace("http-equiv", "")
    for word in ("altered", "sequencing", "thalamus"):
        assert word not in page


def test_pictures_are_drawn_of_any_grid(tmp_path: Path):
    """Also of an empty mask, which a reader has to draw."""
    case = replace(
        prepared_case(0), tumour_mask=on_grid(np.zeros_like(sitk.GetArrayFromImage(prepared_case(0).tumour_mask)))
    )

    draw_mosaic(case, tmp_path / "case.jpg", "mni152")
    draw_atlas("mni152", tmp_path / "atlas.jpg")

    assert ["atlas.jpg", "case.jpg"] == sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / "case.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_measures_survive_the_store(tmp_path: Path):
    store, case = PreparedStore(tmp_path), with_mask_measures(prepared_case(1))
    head = sitk.Cast(case.brain_mask * 200, sitk.sitkUInt8)
    store.save("key", replace(case, head_t1ce=head))

    kept = store.load("key", "p").head_t1ce
    assert np.array_equal(sitk.GetArrayFromImage(head), sitk.GetArrayFromImage(kept))

    assert dict(case.quality) == store.quality("key")
