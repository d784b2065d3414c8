"""Nothing of a label reaches a reader, neither in a byte nor by the order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.site import Site, open_site
from client.tasks.case_keys import open_queue
from client.tasks.review_bundle import export_batch
from client.tasks.review_case import listing, open_case
from client.tasks.review_page import ReaderDesk
from common.errors import InputError
from tests.review_site import site_file, unpack, write_review_site

LABEL_WORDS = (b"altered", b"sequencing", b"thalamus", b"safety", b"h3_method")
SHORT_WORDS = (b"K27", b"H3", b"score", b"wild")  # looked for in text: noise holds any three letters


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(write_review_site(tmp_path, 4))


def seen_by_a_reader(site: Site, folder: Path) -> dict[str, bytes]:
    """Every byte that a reader gets, on every way, unpacked."""
    bundle = export_batch(site, batch=4, reader="R1", folder=folder)
    seen = {name: gzip.decompress(d) if name.endswith(".gz") else d for name, d in unpack(bundle.path).items()}
    seen["the archive itself"] = gzip.decompress(bundle.path.read_bytes())
    seen["list"] = CliRunner().invoke(app, ["review", "list", "--json", "--site", str(site_file(site))]).output.encode()
    seen["csv"] = CliRunner().invoke(app, ["review", "list", "--csv", "--site", str(site_file(site))]).output.encode()
    desk = ReaderDesk(site, "R1")
    for case in bundle.cases:
        opened = open_case(site, case, "R1")
        seen[f"commands of {case}"] = json.dumps(opened.commands).encode()
        seen[f"folder of {case}"] = "".join(p.name for p in opened.files.t1ce.parent.iterdir()).encode()
        for path in opened.files.t1ce.parent.iterdir():
            data = path.read_bytes()
            seen[f"{case} {path.name}"] = gzip.decompress(data) if path.suffix == ".gz" else data
        for name in ("t1ce", "flair"):
            seen[f"page {case} {name}"] = desk.image(case, name)
    seen["page"] = json.dumps(desk.queue()).encode()
    return seen


def test_a_reader_sees_no_label(site: Site, tmp_path: Path):
    """No word of the manifest's clinical columns in any byte; and two classes give byte-identical surroundings."""
    seen = seen_by_a_reader(site, tmp_path / "out")

    assert len(seen) > 30
    for place, data in seen.items():
        for word in LABEL_WORDS + (SHORT_WORDS if data.isascii() and b"\0" not in data else ()):
            assert word.lower() not in data.lower(), (place, word)


def test_swapping_all_labels_changes_nothing_a_reader_sees(tmp_path: Path):
    """The order, the sample for two readers, the files: all independent of the label."""
    one = open_site(write_review_site(tmp_path / "a", 6, second_reader_fraction=0.3))
    other_file = write_review_site(tmp_path / "b", 6, second_reader_fraction=0.3)
    manifest = other_file.with_name("manifest.csv")
    text = manifest.read_text().replace(",not_altered,", ",X,").replace(",altered,", ",not_altered,")
    manifest.write_text(text.replace(",X,", ",altered,"))
    other = open_site(other_file)

    assert listing(one) == listing(other)
    rows = [{c.pseudonym: c.material.second_reader for c in open_queue(s).cases().values()} for s in (one, other)]
    assert rows[0] == rows[1]
    assert 2 == sum(rows[0].values())


def test_doubtful_cases_come_first_then_uncertain_ones(site: Site):
    queue = open_queue(site)
    material = queue.find("case-00").material
    queue.enter("case-09", material.model_copy(update={"flags": ("brain mask of 500 ml",), "uncertainty": 0.0}))

    order = [case.pseudonym for case in queue.ordered(lambda p: 0.5)]

    assert ["case-09", "case-03", "case-02", "case-01", "case-00"] == order


@pytest.mark.parametrize("name", ["DMG-001", "h3k27m_4", "GBM.7", "wildtype2"])
def test_a_pseudonym_that_tells_is_refused(site: Site, name: str):
    with pytest.raises(InputError, match="pseudonym-tells"):
        open_queue(site).enter(name, open_queue(site).find("case-00").material)
