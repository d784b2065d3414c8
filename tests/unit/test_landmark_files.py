"""The standard scale on its way: the site's file, the coordinator's sum, the protocol that comes of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from client.site import Site, open_site
from client.tasks import landmarks as task
from common.config.preprocessing import LANDMARK_PERCENTILES
from common.errors import InputError, QuorumLost, Refused
from common.messages.landmarks import LandmarksReply
from server.cli import app
from server.standard_scale import combine_landmarks, read_landmarks
from tests.builders import small_protocol
from tests.review_site import write_review_site


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Site:
    """Nine cases whose landmarks are made here instead of measured; every third is a test case."""
    path = write_review_site(tmp_path, 9)
    _write_split(path.with_name("manifest.csv"), lambda i: "test" if i % 3 == 2 else "train")

    def measured(work, site):
        row, file = work
        number = int(row.pseudonym[-2:])
        rise = np.cumsum(np.random.default_rng(number).uniform(1, 9, (2, len(LANDMARK_PERCENTILES))), axis=1)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rise.tolist()))
        return ""

    monkeypatch.setattr(task, "_measure", measured)
    monkeypatch.setattr(task, "side_by_side", lambda work, do, workers: ((name, do(w)) for name, w in work.items()))
    return open_site(path)


def _write_split(manifest: Path, split) -> None:
    rows = list(csv.DictReader(manifest.read_text().splitlines()))
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "split"])
        writer.writeheader()
        writer.writerows({**row, "split": split(i)} for i, row in enumerate(rows))


def test_only_training_cases_are_measured_and_once(site: Site):
    first = task.sum_landmarks(site).reply
    before = {path: path.stat().st_mtime_ns for path in (site.settings.cache / "landmarks").iterdir()}

    again = task.sum_landmarks(site).reply

    assert (6, 6) == (first.cases, len(before))
    assert first == again
    assert before == {path: path.stat().st_mtime_ns for path in (site.settings.cache / "landmarks").iterdir()}
    assert "case-" not in first.model_dump_json()


def test_a_site_with_too_few_or_unknown_training_cases_gives_nothing(site: Site, monkeypatch):
    manifest = site.settings.manifest
    text = manifest.read_text()
    manifest.write_text(text.replace(",train", ",test").replace(",test", ",train", 2))
    with pytest.raises(Refused, match="too-few-cases"):
        task.sum_landmarks(site)
    manifest.write_text(text.replace(",train", ",", 1))
    with pytest.raises(InputError, match="split-missing"):
        task.sum_landmarks(site)


def test_a_case_that_fails_is_told_and_left_out(site: Site, monkeypatch):
    whole = task._measure

    def one_fails(work, site):
        return "image-unreadable: Cut." if work[0].pseudonym == "case-00" else whole(work, site)

    monkeypatch.setattr(task, "_measure", one_fails)
    report = task.sum_landmarks(site)

    assert (5, {"case-00": "image-unreadable: Cut."}) == (report.reply.cases, report.set_aside)


def _replies(*cases: int) -> list[LandmarksReply]:
    preparation = small_protocol().landmarks_fingerprint()
    rises = [np.tile(np.linspace(0, 100, len(LANDMARK_PERCENTILES)) ** (1 + i / 9), 2) for i in range(len(cases))]
    totals = [n * rise / rise[-1] * 100 for n, rise in zip(cases, rises, strict=True)]
    return [
        LandmarksReply(site=f"s{i}", preparation=preparation, cases=n, total=tuple(map(float, total)))
        for i, (n, total) in enumerate(zip(cases, totals, strict=True))
    ]


def test_files_that_do_not_belong_together_are_refused_by_name():
    protocol, (one, two) = small_protocol(), _replies(5, 7)

    for replies, error, code in (
        ([one, one], InputError, "site-twice"),
        ([one, two.model_copy(update={"preparation": "other"})], InputError, "landmarks-of-other-settings"),
        ([one, two.model_copy(update={"cases": 3})], InputError, "too-few-cases"),
        ([one], QuorumLost, "too-few-sites"),
        ([r.model_copy(update={"total": (1.0,) * 22}) for r in (one, two)], InputError, "landmarks-do-not-rise"),
    ):
        with pytest.raises(error, match=code):
            combine_landmarks(replies, protocol)


def test_the_coordinator_writes_the_protocol(tmp_path: Path):
    """What the sites get differs from what they had in the normalisation alone."""
    protocol = small_protocol()
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json", exclude_unset=True)))
    files = []
    for reply in _replies(5, 7):
        files.append(tmp_path / f"{reply.site}.json")
        files[-1].write_text(reply.model_dump_json())
    words = ["landmarks", *map(str, files[::-1]), "--protocol", str(tmp_path / "protocol.yaml")]

    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "nyul.yaml"), "--json"])

    assert 0 == done.exit_code, done.output
    told = json.loads(done.stdout)
    assert {"s0": 5, "s1": 7} == told["sites"]
    made = type(protocol).model_validate(yaml.safe_load((tmp_path / "nyul.yaml").read_text()))
    assert made.preprocessing.standard_scale == combine_landmarks(read_landmarks(files), protocol)
    plain = {"normalisation": "zscore", "standard_scale": None}
    assert protocol == made.model_copy(update={"preprocessing": made.preprocessing.model_copy(update=plain)})
    (tmp_path / "s0.json").write_text("{}")
    with pytest.raises(InputError, match="landmarks-unreadable"):
        read_landmarks(files)
