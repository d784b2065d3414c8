"""One reader, two readers, and their commands: what must be meant, and who sees what of whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.site import Site, open_site
from client.tasks.case_keys import open_queue
from client.tasks.reader_agreement import reader_agreement
from client.tasks.review_case import accept_case, finish_case, listing, open_case, work_file
from client.tasks.review_gate import reader_files
from client.tasks.review_page import ReaderDesk
from common.errors import InputError
from tests.review_site import draw_more, site_file, write_review_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(write_review_site(tmp_path, 4))


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
