"""A hospital's whole pipeline on real and synthetic images."""

from __future__ import annotations

import csv
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from client.case import CaseRow
from client.image_files import write_image
from client.ingest.manifest import read_manifest
from client.ingest.read_case import read_case
from client.preprocess.preprocess import preprocess
from client.site import open_site
from client.store.quarantine import read_quarantine
from client.tasks.landmarks import sum_landmarks
from client.tasks.load_cohort import load_cohort, load_repeats
from client.tasks.prepare_cohort import prepare_cohort
from client.tasks.review_case import accept_case, finish_case, open_case, reopen_case
from client.tasks.side_by_side import THREADS
from common.config.preprocessing import LANDMARK_PERCENTILES, PreprocessingSettings
from common.config.protocol import Protocol
from common.config.radiomics import RadiomicsSettings
from common.config.segmentation import SegmentationSettings
from common.config.visual import VisualSettings
from common.errors import Refused
from server.standard_scale import combine_landmarks, with_scale
from simulation.cohort.make_cohort import CohortSettings, make_cohort
from simulation.replay import read_rows
from simulation.size import at_size

RAW = Path(__file__).parents[2].parent / "shared" / "data" / "tcga_fg_6692" / "raw"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the imaging libraries
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_good_cases_are_prepared_bad_ones_named_and_nothing_is_done_twice(tmp_path: Path):
    """FLAIR of another patient and a truncated file fail with their codes; the others go on."""
    manifest = make_cohort(tmp_path / "cohort", CohortSettings(seed=3, altered=2, not_altered=2))
    rows = read_rows(manifest)
    rows[0]["flair_path"] = rows[1]["flair_path"]
    broken = tmp_path / "cohort" / "broken.nii.gz"
    broken.write_bytes((manifest.parent / rows[2]["t1ce_path"]).read_bytes()[:5000])
    rows[2]["t1ce_path"] = broken.name
    rows[3]["treated_before_scan"] = "yes"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    protocol, _ = at_size(Protocol(name="tiny", radiomics=RadiomicsSettings(perturbations=2)), "small")
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "protocol": "protocol.yaml", "manifest": "cohort/manifest.csv"}))
    site = open_site(path)

    first = {o.pseudonym: o for o in prepare_cohort(site).outcomes}
    second = {o.pseudonym: o for o in prepare_cohort(site).outcomes}

    names = [row["pseudonym"] for row in rows]
    assert [first[n].status for n in names] == ["quarantined", "prepared", "quarantined", "excluded"]
    assert first[names[0]].reason.startswith("different-patients")
    assert first[names[2]].reason.startswith("image-unreadable")
    assert [q.code for q in read_quarantine(tmp_path / "cache")] == ["different-patients", "image-unreadable"]
    assert second[names[1]].status == "cached"
    assert (tmp_path / "cache" / "pictures" / f"{names[1]}.png").stat().st_size > 10_000
    cohort = load_cohort(site)
    assert cohort.training.table.values.shape == (1, 1702)
    assert cohort.training.visual.shape == (1, 131_072)
    assert (1, 2, 1702) == load_repeats(site).shape


def _brain_mask(how):
    """Of the real patient, on the atlas grid; runs in a process of one thread, as the hospital's workers do."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    mask = str(RAW / "t1ce_brain_mask_hdbet.nii.gz")
    row = CaseRow("p", str(RAW / "t1ce.nii.gz"), str(RAW / "flair.nii.gz"), "", mask, False, None, *[""] * 5)
    settings = PreprocessingSettings(spacing_mm=2.0, skull_strip=how)
    return sitk.GetArrayFromImage(preprocess(read_case(row), settings).brain_mask) > 0


def test_brain_mask_of_a_real_patient(monkeypatch):
    """Template skull strip against HD-BET's mask of the same image, on the atlas grid: Dice at least 0.93."""
    if not RAW.exists():
        pytest.skip("the real MRI of ../shared is not beside this checkout")
    for name, value in THREADS.items():
        monkeypatch.setenv(name, value)  # with more threads ANTs' result depends on who is faster
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ours, theirs = pool.map(_brain_mask, ("template", "imported"))

    assert 2 * np.sum(ours & theirs) / (ours.sum() + theirs.sum()) >= 0.93


def test_only_the_accepted_mask_is_measured_and_a_reopened_case_leaves_the_study(tmp_path: Path):
    """Raw images, automatic mask, a reader who enlarges it, features of that mask; then the reader doubts."""
    manifest = make_cohort(tmp_path / "cohort", CohortSettings(seed=3, altered=1, not_altered=1))
    segmentation = SegmentationSettings(review="required", second_reader_fraction=0.0)
    visual = VisualSettings(variant="unet2d")
    protocol, _ = at_size(Protocol(name="tiny", segmentation=segmentation, visual=visual), "small")
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "protocol": "protocol.yaml", "manifest": "cohort/manifest.csv"}))
    site = open_site(path)
    name = read_rows(manifest)[0]["pseudonym"]

    assert ["to_review", "to_review"] == [o.status for o in prepare_cohort(site).outcomes]
    with pytest.raises(Refused, match="nothing-prepared"):
        load_cohort(site)
    opened = open_case(site, name, "R1")
    write_image(sitk.BinaryDilate(sitk.ReadImage(str(opened.mask)), [1, 1, 1]), opened.mask)
    reading = finish_case(site, name, reader="R1", edit="minor", minutes=4).readings[0]
    accept_case(site, name, by="R1")

    report = prepare_cohort(site)

    assert ["prepared", "to_review"] == [o.status for o in report.outcomes]
    assert "preprocess" not in report.outcomes[0].seconds
    assert "A radiologist corrected the mask" in report.methods
    assert (1, 1024 * 16 * 16) == load_cohort(site).training.visual.shape  # of one slice, 64 voxels enlarged to 256
    table = load_cohort(site, visual=False).training.table
    volume_ml = table.values[0, table.names.index("T1CE_original_shape_VoxelVolume")] / 1000
    assert volume_ml == pytest.approx(reading.volume_ml, rel=1e-6)
    assert ["cached", "to_review"] == [o.status for o in prepare_cohort(site).outcomes]
    reopen_case(site, name, by="R1", reason="too large")
    with pytest.raises(Refused, match="nothing-prepared"):
        load_cohort(site)


def test_a_scale_learnt_from_raw_images_is_where_their_brains_then_lie(tmp_path: Path):
    """Two raw training cases, their landmarks as a file, the protocol made of it, one of the cases prepared by it."""
    manifest = make_cohort(tmp_path / "cohort", CohortSettings(seed=3, altered=1, not_altered=1))
    rows = [{**row, "split": "train"} for row in read_rows(manifest)]
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    coarse = {"spacing_mm": 3.0, "n4": {"shrink_factor": 8}, "registration": {"working_mm": 4.0}}
    small = {"preprocessing": coarse, "federation": {"min_cases": 2, "min_sites": 1}}
    protocol = Protocol.model_validate({"name": "tiny", **small})
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump({"name": "tiny", **small}))
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "protocol": "protocol.yaml", "manifest": "cohort/manifest.csv"}))
    site = open_site(path)

    report = sum_landmarks(site)
    scale = combine_landmarks([report.reply], protocol)
    nyul = Protocol.model_validate(yaml.safe_load(with_scale(protocol, scale)))
    done = preprocess(read_case(read_manifest(manifest, site="s")[0]), nyul.preprocessing)

    assert (2, {}) == (report.reply.cases, report.set_aside)
    brain = sitk.GetArrayFromImage(done.brain_mask) > 0
    for image, expected in ((done.t1ce, scale.t1ce), (done.flair, scale.flair)):
        voxels = sitk.GetArrayFromImage(image)
        assert np.percentile(voxels[brain], LANDMARK_PERCENTILES) == pytest.approx(expected, abs=0.1)
        assert not voxels[~brain].any()
    # The network sees z-scores all the same.
    assert float(sitk.GetArrayFromImage(done.network_t1ce)[brain].std()) == pytest.approx(1, abs=1e-3)
    assert [] == list((tmp_path / "cache").glob(".scratch*"))
