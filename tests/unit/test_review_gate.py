"""What may enter a study: accepted masks of the images that a reader saw, and nothing that changed since."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.ingest.manifest import read_manifest
from client.site import Site, open_site
from client.store.feature_store import FeatureStore
from client.store.prepared_store import PreparedStore
from client.tasks.case_keys import feature_keys, open_queue
from client.tasks.prepare_cohort import prepare_cohort
from client.tasks.review_case import accept_case, finish_case, open_case, reject_case, reopen_case
from client.tasks.review_gate import drop_if_changed, reader_files
from tests.review_site import draw_more, enter_all, read_whole, write_review_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(write_review_site(tmp_path, 4))


def keys_of(site: Site) -> dict[str, str]:
    return feature_keys(read_manifest(site.settings.manifest, site="hospital"), site)


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
