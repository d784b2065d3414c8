"""A released model scores a new site as the study would have, and says why."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from client.cli import app
from client.site import open_site
from client.tasks.evaluate import scores_file
from common.command import run_command
from server.reporting.model_files import write_model
from simulation.engines import run_local
from tests.builders import small_protocol, write_federation, write_site


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A finished study of two hospitals and the folder it publishes."""
    folder = tmp_path_factory.mktemp("study")
    federation = write_federation(folder, small_protocol(), {"aachen": 16, "bern": 24})
    state = run_local(federation.study, list(federation.sites.values()))
    write_model(folder / "model", state)
    return federation, folder / "model"


def _score(site_file, model, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["fedmidline-site", "score", "--site", str(site_file), "--model", str(model), "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


@pytest.fixture(params=["last_layer", "normalisation"])
def released_with_own_parts(tmp_path, request):
    """The same under a protocol that leaves something to each site."""
    protocol = small_protocol(training={"rounds": 2, "local_epochs": 2, "personal": request.param})
    federation = write_federation(tmp_path, protocol, {"aachen": 16, "bern": 24})
    state = run_local(federation.study, list(federation.sites.values()))
    write_model(tmp_path / "model", state)
    return federation, tmp_path / "model"


def test_scores_are_those_of_the_study(released, monkeypatch, capsys):
    """Numpy from a file against torch from the wire."""
    _compare_scores(*released, monkeypatch, capsys)


def test_scores_with_a_sites_own_parts_are_those_of_the_study(released_with_own_parts, monkeypatch, capsys):
    """The site finds its own last layer, or its own normalisation, again from the same cases."""
    _compare_scores(*released_with_own_parts, monkeypatch, capsys)


def _compare_scores(federation, model, monkeypatch, capsys):
    site = federation.sites["bern"]

    _, out, _ = _score(site, model, monkeypatch, capsys)

    with scores_file(open_site(site), "trial").open() as file:
        expected = {row["pseudonym"]: float(row["safety_margin"]) for row in csv.DictReader(file)}
    found = {row["pseudonym"]: row["safety_margin"] for row in json.loads(out)["cases_scored"]}
    assert set(expected) == set(found)
    for pseudonym, margin in expected.items():
        assert found[pseudonym] == pytest.approx(margin, abs=1e-5)


def test_a_new_site_is_scored_and_explained(released, tmp_path, monkeypatch, capsys):
    """It took no part in training; every contribution adds up."""
    federation, model = released
    site = write_site(tmp_path, "zurich", federation.protocol, 20, seed=77)

    code, out, _ = _score(site, model, monkeypatch, capsys)

    found = json.loads(out)
    assert (0, 20) == (code, found["cases"])
    assert found["auc"] > 0.9
    for row in found["cases_scored"]:
        assert 29 == len(row["contributions"])
        assert row["safety_margin"] == pytest.approx(sum(row["contributions"].values()) + row["constant"])
        assert row["safety_score"] == pytest.approx(1 / (1 + np.exp(-row["safety_margin"])))
        assert 0.3 < row["visual_distance"] < 3
    with open(found["file"], newline="") as file:  # noqa: PTH123  # the command's own word
        assert 20 == len(list(csv.DictReader(file)))


def test_what_cannot_be_scored(released, tmp_path, monkeypatch, capsys):
    federation, model = released
    other = write_site(tmp_path, "other", small_protocol(seed=1), 12, seed=1)
    literal = small_protocol(head={"relu": "paper_literal"})
    unexplained = write_site(tmp_path, "literal", literal, 12, seed=1)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    about = json.loads((model / "model.json").read_text())

    assert "protocol-differs" in _score(other, model, monkeypatch, capsys)[2]
    assert "model-unreadable" in _score(other, tmp_path / "nowhere", monkeypatch, capsys)[2]
    for changed, code in (
        ({"signature": about["signature"][:3]}, "model-incomplete"),
        ({"harmoniser": {"method": "guessed"}}, "model-incomplete"),
    ):
        (copy / "model.json").write_text(json.dumps({**about, **changed}))
        assert code in _score(federation.sites["bern"], copy, monkeypatch, capsys)[2]
    (copy / "model.json").write_text(json.dumps({**about, "protocol_fingerprint": literal.fingerprint()}))
    assert "model-not-additive" in _score(unexplained, copy, monkeypatch, capsys)[2]


def test_a_new_site_brings_its_own_scanner(tmp_path, monkeypatch, capsys):
    """Under ComBat the site's shift is fitted on its own cases: a scanner far off scores as well as the others."""
    protocol = small_protocol(harmonisation={"method": "combat"})
    federation = write_federation(tmp_path, protocol, {"aachen": 16, "bern": 24, "cork": 16})
    state = run_local(federation.study, list(federation.sites.values()))
    write_model(tmp_path / "model", state)
    site = write_site(tmp_path, "zurich", protocol, 24, seed=78, scanners=("far off",), shift=6.0)

    code, out, err = _score(site, tmp_path / "model", monkeypatch, capsys)

    assert code == 0, err
    assert json.loads(out)["auc"] > 0.9
    assert json.loads(out)["cases_far_from_training"] < 6
