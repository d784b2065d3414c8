"""Releases, retraining and withdrawal, on real studies of small hospitals."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
import yaml

from client.cli import app as site_app
from client.site import open_site
from client.store.run_ledger import RunLedger
from client.tasks.evaluate import scores_file
from client.tasks.load_cohort import load_cohort
from common.command import run_command
from common.errors import InputError, ProtocolMismatch, Refused
from server.app import open_study
from server.checkpoint import CHECKPOINT
from server.cli import app as study_app
from server.release_checks import CHECKS
from server.releases import add_release, current_version, list_releases, moves_of, read_release, roll_back
from server.reporting.privacy import privacy_view
from server.withdrawal import affected_by, rerun_study
from simulation.engines import run_local
from tests.builders import small_protocol, write_federation, write_site

WHEN = datetime(2026, 3, 1, tzinfo=UTC)
SIZES = {"aachen": 40, "bern": 48, "cork": 40}
SMALL = tuple(CHECKS)
"""Invented cases have nothing to hide; tests/unit/test_release_checks.py has the checks."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of three hospitals, its last state, and version 1 of a folder of releases."""
    home = tmp_path_factory.mktemp("consortium")
    federation = write_federation(home, small_protocol(), SIZES)
    state = run_local(federation.study, list(federation.sites.values()))
    add_release(home / "releases", state, reason="first", when=WHEN, accept=SMALL)
    return home, federation, state


@pytest.fixture
def place(finished, tmp_path):
    """A copy that a test may spoil."""
    home, federation, state = finished
    shutil.copytree(home / "releases", tmp_path / "releases")
    return tmp_path / "releases", federation, state


def write_study(folder, federation, sites, **more):
    """Another study of these hospitals, under the first one's protocol."""
    folder.mkdir(parents=True)
    (folder / "protocol.yaml").write_text(yaml.safe_dump(federation.protocol.model_dump(mode="json")))
    content = {"name": folder.name, "protocol": "protocol.yaml", "sites": list(sites), "join_timeout_s": 90.0, **more}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    return folder / "study.yaml"


def same_weights(one, other):
    for name, weight in one.weights.items():
        np.testing.assert_array_equal(other.weights[name], weight)


def test_a_release_says_where_it_comes_from(place):
    folder, _, state = place
    made = read_release(folder, 1)

    assert (made.version, made.parent, made.study, made.reason) == (1, None, "trial", "first")
    assert made.sites == {n: (sum(q.training_cases), sum(q.test_cases)) for n, q in state.qualified.items()}
    assert made.protocol_fingerprint == state.protocol.fingerprint()
    assert {"model.safetensors", "model.json", "protocol.json"} == set(made.sha256)
    assert 0.5 < made.metrics["test"]["auc"] <= 1


def test_the_same_model_is_released_once(place):
    folder, _, state = place

    again = add_release(folder, state, reason="again", when=WHEN, accept=SMALL)

    assert again == read_release(folder, 1)
    assert len(list_releases(folder)) == 1


def test_roll_back_and_forth(place):
    """Nothing is deleted, every move is kept with its reason."""
    folder, _, state = place
    with pytest.raises(Refused, match="nothing-to-roll-back-to"):
        roll_back(folder, to=None, reason="?", when=WHEN)
    add_release(folder, state.evolve(study="second"), reason="second", when=WHEN, accept=SMALL)

    assert current_version(folder) == 2
    assert roll_back(folder, to=None, reason="v2 is worse", when=WHEN).version == 1
    assert current_version(folder) == 1
    assert [r.version for r in list_releases(folder)] == [1, 2]
    assert [(m.version, m.reason) for m in moves_of(folder)] == [(1, "first"), (2, "second"), (1, "v2 is worse")]
    with pytest.raises(InputError, match="release-unknown"):
        roll_back(folder, to=7, reason="?", when=WHEN)


def test_a_damaged_version_cannot_be_put_in_force(place):
    folder, _, state = place
    add_release(folder, state.evolve(study="second"), reason="second", when=WHEN, accept=SMALL)
    numbers = folder / "v0001" / "model.safetensors"
    numbers.write_bytes(numbers.read_bytes()[:-1] + b"x")

    with pytest.raises(InputError, match=r"release-damaged \[model.safetensors\]"):
        roll_back(folder, to=1, reason="?", when=WHEN)
    assert current_version(folder) == 2


def test_a_crash_while_a_version_is_written_leaves_no_version(place, monkeypatch):
    """Neither half a folder under a version's name nor another version in force."""
    folder, _, state = place
    second = state.evolve(study="second")
    monkeypatch.setattr("server.releases.Release.model_dump_json", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        add_release(folder, second, reason="second", when=WHEN, accept=SMALL)
    monkeypatch.undo()

    assert [r.version for r in list_releases(folder)] == [1]
    assert current_version(folder) == 1
    assert add_release(folder, second, reason="second", when=WHEN, accept=SMALL).version == 2


def test_an_unfinished_study_is_not_released(place):
    folder, _, state = place
    with pytest.raises(Refused, match="study-not-finished"):
        add_release(folder, state.evolve(finished=False), reason="?", when=WHEN, accept=SMALL)


def test_a_new_site_joins_a_released_model(place, tmp_path):
    """Statistics and signature are the release's, training starts from its weights, and every site says before and after."""
    folder, federation, first = place
    dublin = write_site(tmp_path / "sites", "dublin", federation.protocol, 48, seed=9)
    study = write_study(tmp_path / "second", federation, [*SIZES, "dublin"], start=str(folder))

    state = run_local(study, [*federation.sites.values(), dublin])

    assert state.status() == "completed", [(e.action, e.round, e.codes) for e in state.exchanges]
    assert {"baseline", "train", "evaluate", "qualify"} == {e.phase for e in state.exchanges}
    assert (state.origin.study, state.origin.version) == ("trial", 1)
    assert state.selection.signature == first.selection.signature
    begun = next(e for e in state.exchanges if e.action == "train_round").loss
    assert begun < next(e for e in first.exchanges if e.action == "train_round").loss
    assert set(state.before) == {*SIZES, "dublin"}
    site = open_site(federation.sites["aachen"])
    assert scores_file(site, "second-before").read_text() != scores_file(site, "second").read_text()
    assert {"second", "trial"} <= {run.study for run in RunLedger(site.settings.cache).runs()}
    # The old sites' test cases under the released model are exactly what the first study saw.
    for site in SIZES:
        np.testing.assert_array_equal(state.before[site], first.site_histograms[site])
    made = add_release(folder, state, reason="with dublin", when=WHEN, accept=SMALL)
    assert (made.version, made.parent) == (2, 1)


def test_the_report_shows_before_and_after(place, tmp_path, monkeypatch, capsys):
    folder, federation, _ = place
    study = write_study(tmp_path / "second", federation, SIZES, start=str(folder / "v0001"))
    run_local(study, list(federation.sites.values()))

    call(study_app, monkeypatch, capsys, "report", "--study", study.parent, "--out", tmp_path / "report")

    found = json.loads((tmp_path / "report" / "report.json").read_text())["retraining"]
    assert set(found["pooled"]) == {"before", "after"}
    assert set(found["sites"]) == set(SIZES)
    assert "Before and after retraining" in (tmp_path / "report" / "report.html").read_text()


def test_retraining_resumes_without_reading_the_release_again(place, tmp_path):
    """The checkpoint holds the model; the folder may have moved."""
    folder, federation, _ = place
    study = write_study(tmp_path / "second", federation, SIZES, start=str(folder))
    whole = run_local(study, list(federation.sites.values()))
    shutil.rmtree(folder)

    again = open_study(study)[1]

    assert (study.parent / CHECKPOINT).exists()
    same_weights(whole, again)


def test_what_a_release_does_not_fit_is_named(place, tmp_path):
    folder, federation, _ = place
    for change, field in (
        ({"seed": 5}, "seed"),
        ({"head": {"hidden": 12}}, "head"),
        ({"radiomics": {"preset": "paper_default"}}, "features"),
        ({"harmonisation": {"method": "site_zscore"}}, "harmonisation.method"),
    ):
        study = write_study(tmp_path / field.replace(".", "-"), federation, SIZES, start=str(folder))
        (study.parent / "protocol.yaml").write_text(yaml.safe_dump(small_protocol(**change).model_dump(mode="json")))
        with pytest.raises(ProtocolMismatch, match=field):
            open_study(study)
    with pytest.raises(InputError, match="model-unreadable"):
        open_study(write_study(tmp_path / "nowhere", federation, SIZES, start="not/there"))


def without_split(site_file, *, keep=None):
    """Take the split out of a manifest, and all cases but the first `keep`."""
    path = site_file.parent / "manifest.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))[:keep]
    for row in rows:
        del row["split"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_new_cases_never_turn_a_training_case_into_a_test_case(tmp_path):
    """A drawn split: the site grows by a third, and every old case keeps its side; the share is kept among all."""
    federation = write_federation(tmp_path, small_protocol(), {"aachen": 60, "bern": 40, "cork": 40})
    grown = {n: (p.parent / "manifest.csv").read_text() for n, p in federation.sites.items()}
    for path in federation.sites.values():
        without_split(path, keep=40)
    run_local(federation.study, list(federation.sites.values()))
    before = load_cohort(open_site(federation.sites["aachen"]), visual=False)

    (federation.sites["aachen"].parent / "manifest.csv").write_text(grown["aachen"])
    without_split(federation.sites["aachen"])
    after = load_cohort(open_site(federation.sites["aachen"]), visual=False)

    assert set(before.training.pseudonyms) < set(after.training.pseudonyms)
    assert set(before.test.pseudonyms) < set(after.test.pseudonyms)
    assert len(after.test.pseudonyms) == 12


def test_a_case_that_the_release_learned_from_is_not_tested(place, tmp_path):
    """A manifest that puts it among the test cases: that site is refused by name, before any figure is printed."""
    folder, federation, _ = place
    manifest = federation.sites["aachen"].parent / "manifest.csv"
    honest = manifest.read_text()
    manifest.write_text(honest.replace(",train", ",?").replace(",test", ",train").replace(",?", ",test"))
    study = write_study(tmp_path / "swapped", federation, SIZES, start=str(folder))

    try:
        state = run_local(study, list(federation.sites.values()))
    finally:
        manifest.write_text(honest)

    told = next(e for e in state.exchanges if e.phase == "baseline")
    assert (told.roster["aachen"], told.codes["aachen"]) == ("refused", "test-case-was-trained-on")


def test_a_run_without_a_withdrawn_case_is_the_run_that_never_had_it(tmp_path, monkeypatch, capsys):
    """Commands on both sides: the hospital withdraws, the coordinator looks up and repeats; every weight is equal."""
    federation = write_federation(tmp_path / "a", small_protocol(), SIZES)
    run_local(federation.study, list(federation.sites.values()))
    never = write_federation(tmp_path / "b", small_protocol(), SIZES)
    gone = load_cohort(open_site(federation.sites["bern"]), visual=False).training.pseudonyms[3]
    manifest = never.sites["bern"].parent / "manifest.csv"
    manifest.write_text("".join(x for x in manifest.read_text().splitlines(True) if not x.startswith(f"{gone},")))

    told = call(site_app, monkeypatch, capsys, "withdraw", gone, "--site", federation.sites["bern"])
    affected = call(study_app, monkeypatch, capsys, "runs", "--in", tmp_path / "a", "--site", "bern")
    study = call(
        study_app, monkeypatch, capsys, "rerun", "--study", federation.study.parent, "--out", tmp_path / "a" / "again"
    )["study"]
    again = run_local(type(federation.study)(study), list(federation.sites.values()))
    expected = run_local(never.study, list(never.sites.values()))

    assert [(run["study"], run["used_for"]) for run in told["runs"]] == [("trial", "training")]
    assert [run["fingerprint"] for run in affected["runs"]] == [told["runs"][0]["fingerprint"]]
    assert again.replaces == "trial"
    assert sum(again.qualified["bern"].training_cases) == sum(expected.qualified["bern"].training_cases)
    same_weights(expected, again)
    for site in SIZES:
        np.testing.assert_array_equal(expected.site_histograms[site], again.site_histograms[site])
    later = RunLedger(federation.sites["bern"].parent / "cache").runs(gone)
    assert [run.study for run in later] == ["trial"]


def test_a_site_that_leaves(place, tmp_path):
    """The run without it equals a study that never expected it; versions that come from it are named, with descendants."""
    folder, federation, state = place
    child = state.evolve(study="child", origin=None)
    add_release(folder, child, reason="unrelated", when=WHEN, accept=SMALL)
    second = run_local(
        write_study(tmp_path / "runs" / "second", federation, SIZES, start=str(folder / "v0001")),
        list(federation.sites.values()),
    )
    add_release(folder, second, reason="goes on", when=WHEN, accept=SMALL)
    shutil.copytree(federation.study.parent, tmp_path / "runs" / "trial")

    found = {run["study"]: run for run in affected_by(tmp_path / "runs", site="cork", releases=folder)}
    assert found["trial"]["sites"] == {"cork": [sum(c) for c in _cases(state, "cork")]}
    assert (found["trial"]["releases"], found["trial"]["descendants"]) == ([1], [3])
    assert (found["second"]["releases"], found["second"]["descendants"]) == ([3], [])
    assert affected_by(tmp_path / "runs", site="dublin", releases=folder) == []
    # A run that the site had no part in, but that went on from a model which had learned from it.
    pair = {name: path for name, path in federation.sites.items() if name != "cork"}
    third = write_study(tmp_path / "runs" / "third", federation, pair, start=str(folder / "v0003"))
    run_local(third, list(pair.values()))
    through = {run["study"]: run for run in affected_by(tmp_path / "runs", site="cork", releases=folder)}["third"]
    assert (through["sites"], through["went_on_from"]["version"]) == ({}, 3)

    two = [path for name, path in federation.sites.items() if name != "cork"]
    again = run_local(rerun_study(tmp_path / "runs" / "trial", tmp_path / "again", without=("cork",), name=""), two)
    never = run_local(write_study(tmp_path / "never", federation, ["aachen", "bern"]), two)
    same_weights(never, again)


def _cases(state, site):
    return state.qualified[site].training_cases, state.qualified[site].test_cases


def test_what_cannot_be_repeated(place, tmp_path):
    folder, federation, _ = place
    study = federation.study.parent
    for without, code in ((("dublin",), "site-unknown"), (("bern", "cork"), "too-few-sites")):
        with pytest.raises((InputError, Refused), match=code):
            rerun_study(study, tmp_path / "x", without=without, name="")
    with pytest.raises(Refused, match="folder-not-empty"):
        rerun_study(study, study, without=(), name="")
    with pytest.raises(Refused, match="start-unclear"):
        rerun_study(study, tmp_path / "x", without=(), name="", start=folder)
    assert not (tmp_path / "x").exists()
    second = write_study(tmp_path / "second", federation, SIZES, start=str(folder))
    run_local(second, list(federation.sites.values()))
    with pytest.raises(Refused, match="start-unclear"):
        rerun_study(second.parent, tmp_path / "x", without=("cork",), name="")
    with pytest.raises(Refused, match="starts-from-affected"):
        rerun_study(second.parent, tmp_path / "x", without=("cork",), name="", start=folder)
    path = rerun_study(second.parent, tmp_path / "x", without=(), name="third", start=folder)
    assert yaml.safe_load(path.read_text())["name"] == "third"


def test_a_case_nobody_knows_and_a_case_withdrawn_twice(finished, tmp_path, monkeypatch, capsys):
    site = write_site(tmp_path, "essen", small_protocol(), 24, seed=4)

    with pytest.raises(SystemExit) as ended:
        call(site_app, monkeypatch, capsys, "withdraw", "nobody", "--site", site, raw=True)
    assert ended.value.code == 2
    for _ in range(2):
        told = call(site_app, monkeypatch, capsys, "withdraw", "essen-3", "--site", site)
    assert told["runs"] == []
    lines = (site.parent / "manifest.withdrawn.csv").read_text().splitlines()
    assert lines[0] == "pseudonym,day,reason"
    assert len(lines) == 2
    assert "essen-3" not in load_cohort(open_site(site), visual=False).training.pseudonyms


def test_release_commands(place, monkeypatch, capsys):
    folder, federation, _ = place

    added = call(
        study_app, monkeypatch, capsys, "release", "add", "--study", federation.study.parent, "--releases", folder,
        "--reason", "again", *(word for name in SMALL for word in ("--accept", name)),
    )  # fmt: skip
    checked = call(study_app, monkeypatch, capsys, "release", "check", "--study", federation.study.parent)
    listed = call(study_app, monkeypatch, capsys, "release", "list", "--releases", folder)
    shown = call(study_app, monkeypatch, capsys, "release", "show", "--releases", folder)

    assert added["version"] == listed["current"] == 1
    assert checked["checks"] == added["checks"]
    assert {c["name"] for c in checked["checks"] if not c["passed"]} == set(added["accepted"])
    assert {"degrees-of-freedom", "memorised-cases"} <= set(added["accepted"])
    assert shown == listed["versions"][0] == added
    with pytest.raises(SystemExit) as ended:
        call(study_app, monkeypatch, capsys, "release", "rollback", "--releases", folder, "--reason", "?", raw=True)
    assert ended.value.code == 3


def call(app, monkeypatch, capsys, *words, raw=False):
    """Run a command as a person would; what it prints as JSON."""
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["fedmidline", *map(str, words), *([] if raw else ["--json"])])
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    printed = capsys.readouterr()
    if raw:
        raise ended.value
    assert ended.value.code == 0, printed.err
    return json.loads(printed.out)


def test_retraining_with_privacy_spends_only_in_training(place, tmp_path):
    """The released statistics and signature stay, so nothing but the private rounds asks for training cases; the study
    goes on from the released weights.
    """
    releases, federation, first = place
    settings = federation.protocol.model_dump(mode="json")
    settings["federation"]["timeout_s"] = 600  # a busy machine takes its time to load Opacus
    settings["privacy"] = {"record_level": {"noise_multiplier": 4.0, "sampling_rate": 0.5}}
    study = write_study(tmp_path / "private", federation, SIZES, start=str(releases))
    files = [study.parent / "protocol.yaml", *(path.parent / "protocol.yaml" for path in federation.sites.values())]
    before = [path.read_text() for path in files]
    try:
        for path in files:
            path.write_text(yaml.safe_dump(settings))
        state = run_local(study, list(federation.sites.values()))
    finally:
        for path, text in zip(files, before, strict=True):
            path.write_text(text)

    assert state.status() == "completed", [(e.action, e.round, e.codes) for e in state.exchanges]
    assert {e.action for e in state.exchanges} == {"qualify", "evaluate", "train_round"}
    assert state.selection.signature == first.selection.signature
    told = privacy_view(state.protocol, state.rounds_done, from_release=True)["record_level"]
    assert told["told_without_noise"] == ["how many training cases each site has"]
    assert 0 < told["epsilon"]["prv"] < told["epsilon"]["rdp"]
    for path in federation.sites.values():
        ledger = open_site(path).settings.cache / "budget" / f"{path.parent.name}.jsonl"
        spent = [line for line in map(json.loads, ledger.read_text().splitlines()) if line["event"] == "spent"]
        assert [line["study"] for line in spent] == ["private"] * state.rounds_done
        assert spent[-1]["epsilon"] == pytest.approx(told["epsilon"]["rdp"])
