"""A hospital's whole pipeline on real and synthetic images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from client.case import CaseRow
from client.ingest.read_case import read_case
from client.preprocess.preprocess import preprocess
from client.site import open_site
from client.store.quarantine import read_quarantine
from client.tasks.load_cohort import load_cohort
from client.tasks.prepare_cohort import prepare_cohort
from common.config.preprocessing import PreprocessingSettings
from common.config.protocol import Protocol
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
    protocol, _ = at_size(Protocol(name="tiny"), "small")
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


def test_brain_mask_of_a_real_patient():
    """Template skull strip against HD-BET's mask of the same image, on the atlas grid: Dice at least 0.93."""
    if not RAW.exists():
        pytest.skip("the real MRI of ../shared is not beside this checkout")
    mask = str(RAW / "t1ce_brain_mask_hdbet.nii.gz")
    row = CaseRow("p", str(RAW / "t1ce.nii.gz"), str(RAW / "flair.nii.gz"), "", mask, False, None, *[""] * 5)
    case = read_case(row)

    ours = preprocess(case, PreprocessingSettings(spacing_mm=2.0)).brain_mask
    theirs = preprocess(case, PreprocessingSettings(spacing_mm=2.0, skull_strip="imported")).brain_mask

    a, b = (sitk.GetArrayFromImage(m) > 0 for m in (ours, theirs))
    assert 2 * np.sum(a & b) / (a.sum() + b.sum()) >= 0.93
