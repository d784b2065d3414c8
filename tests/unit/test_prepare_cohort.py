"""No case vanishes: cases in = prepared + excluded + quarantined, whatever happens to one of them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from client.ingest.manifest import COLUMNS
from client.site import Site, open_site
from client.store.quarantine import read_quarantine
from client.tasks import prepare_cohort as task
from tests.dying_worker import prepare_or_die

PROTOCOL = Path(__file__).parents[2] / "site_configs" / "protocols" / "recommended.yaml"


def _site(folder: Path, pseudonyms: list[str]) -> Site:
    np.save(folder / "image.npy", np.zeros(3))
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for name in pseudonyms:
            cells = dict.fromkeys(COLUMNS, "")
            paths = {"t1ce_path": "image.npy", "flair_path": "image.npy"}
            writer.writerow({**cells, **paths, "pseudonym": name, "label": "altered"})
    settings = {"name": "s", "protocol": str(PROTOCOL), "manifest": "manifest.csv", "workers": 2}
    (folder / "site.yaml").write_text(yaml.safe_dump(settings))
    return open_site(folder / "site.yaml")


def test_a_worker_that_is_killed_takes_no_neighbour_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(task, "_prepare_case", prepare_or_die)

    report = task.prepare_cohort(_site(tmp_path, ["a", "b", "killer", "c"]))

    assert {"prepared": 3, "quarantined": 1} == Counter(o.status for o in report.outcomes)
    assert [("killer", "worker-killed")] == [(q.pseudonym, q.code) for q in read_quarantine(tmp_path / "cache")]


def test_an_unexpected_error_is_told_without_its_text(tmp_path, monkeypatch):
    site = _site(tmp_path, ["a"])

    def broken(*_args: object):
        raise ValueError("DOE^JOHN")

    monkeypatch.setattr(task, "_pipeline", broken)
    row = task.read_manifest(site.settings.manifest, site="s")[0]

    outcome = task._prepare_case(task._Work(row, task.case_keys(site, "f", None)), site, False)

    assert ("quarantined", "unexpected") == (outcome.status, outcome.code)
    assert "ValueError at" in outcome.reason
    assert "DOE" not in str(outcome)


def test_a_cache_that_cannot_be_written_stops_with_its_name(tmp_path, monkeypatch):
    site = _site(tmp_path, ["a"])

    def closed(*_args: object, **_more: object):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("client.disk.os.open", closed)

    with pytest.raises(task.InputError, match="folder-read-only"):
        task.prepare_cohort(site)
