"""Search inside the training set: test cases never matter, folds are the sites' own, and what was found is found again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from client.site import open_site
from client.store.cohort import SiteCohort
from client.tasks.load_cohort import load_cohort
from common.command import run_command
from common.errors import ConfigError, Refused
from simulation.cli import app
from simulation.journal import Journal
from simulation.search import deal_folds, search, settings_of
from tests.builders import small_protocol, write_site

GRID = {"training.learning_rate": [1e-6, 0.3], "selection.k": [5, 40]}


@pytest.fixture(scope="module")
def everyone(tmp_path_factory):
    """One centre with 72 cases of three scanners."""
    protocol = small_protocol(training={"rounds": 2, "local_epochs": 2})
    return write_site(tmp_path_factory.mktemp("run"), "single-centre", protocol, 72, seed=1, scanners=("x", "y", "z"))


@pytest.fixture(scope="module")
def training(everyone):
    cases = load_cohort(open_site(everyone)).training
    return cases, [("x", "y", "z")[int(name.rpartition("-")[2]) % 3] for name in cases.pseudonyms]


def test_a_useful_rate_wins(training):
    """With 1e-6 nothing is learned; the chosen one separates the classes on cases that it has not seen."""
    cases, owners = training
    rows, chosen = search(cases, owners, small_protocol(training={"rounds": 2}), GRID, folds=3)

    assert len(rows) == 4
    assert dict(chosen)["training.learning_rate"] == 0.3
    best = next(row for row in rows if row.setting == chosen)
    assert best.mean == max(row.mean for row in rows) > 0.9
    assert search(cases, owners, small_protocol(training={"rounds": 2}), GRID, folds=3) == (rows, chosen)


def test_folds_are_disjoint_stratified_and_each_sites_own(training):
    """Another site's cases change nothing in how a site deals its own."""
    cases, owners = training
    altered = cases.table.altered.tolist()
    places = deal_folds(altered, owners, 4, seed=7)

    for site in "xyz":
        mine = np.array(owners) == site
        for label in (True, False):
            sizes = np.bincount(places[mine & (cases.table.altered == label)], minlength=4)
            assert np.ptp(sizes) <= 1
        assert np.ptp(np.bincount(places[mine], minlength=4)) <= 1
        alone = deal_folds([a for a, m in zip(altered, mine, strict=True) if m], [site] * mine.sum(), 4, seed=7)
        np.testing.assert_array_equal(alone, places[mine])
    with pytest.raises(Refused, match="too-few-cases-to-search"):
        deal_folds(altered, owners, 30, seed=7)


def test_test_cases_never_matter(everyone, tmp_path, monkeypatch, capsys):
    """The command, and the command again with absurd numbers in every test case: not one digit moves."""

    def run():
        found = _run(everyone.parent.parent, monkeypatch, capsys, "--no-resume")
        return json.loads(found[1])

    honest = run()
    real = load_cohort

    def spoilt(site, *args, **kwargs):
        cohort = real(site, *args, **kwargs)
        absurd = cohort.test.table.with_values(np.full_like(cohort.test.table.values, 1e30))
        return SiteCohort(cohort.training, type(cohort.test)(absurd, cohort.test.visual, cohort.test.pseudonyms))

    monkeypatch.setattr("simulation.run_search.load_cohort", spoilt)
    assert run() == honest


def test_a_fold_never_reaches_its_own_model(training):
    """Every case is scored once, by a model whose statistics, selection and training lacked it."""
    cases, owners = training
    protocol, grid = small_protocol(training={"rounds": 1}), {"selection.k": [5]}
    seen: list[SiteCohort] = []

    def watch(cohort):
        seen.append(cohort)
        return cohort

    search(cases, owners, protocol, grid, folds=3, harmonise=watch)

    everybody = set(cases.pseudonyms)
    for cohort in seen:
        assert set(cohort.training.pseudonyms) | set(cohort.test.pseudonyms) == everybody
        assert not set(cohort.training.pseudonyms) & set(cohort.test.pseudonyms)
    held = [name for cohort in seen for name in cohort.test.pseudonyms]
    assert sorted(held) == sorted(everybody)


def test_nothing_but_training_cases_can_be_searched(everyone):
    cohort = load_cohort(open_site(everyone))
    with pytest.raises(Refused, match="fit-on-test-cases"):
        search(cohort.test, ["x"] * len(cohort.test.pseudonyms), small_protocol(), {"selection.k": [5]})


@pytest.mark.parametrize(
    ("grid", "named"),
    [
        ({"visual.crop_voxels": [32]}, "visual.crop_voxels"),
        ({"training.learning_rate": [0.1, -1]}, "learning_rate=-1"),
        ({"training.learnin_rate": [0.1]}, "learnin_rate"),
        ({}, "grid"),
    ],
)
def test_impossible_grids_are_named(grid, named):
    with pytest.raises(ConfigError, match=named):
        settings_of(small_protocol(), grid)


def test_a_search_that_was_stopped_goes_on(training, tmp_path):
    cases, owners = training
    protocol, grid = small_protocol(training={"rounds": 1}), {"selection.k": [5, 10]}
    whole = search(cases, owners, protocol, grid, folds=2)
    path, calls = tmp_path / "search.jsonl", []

    def kill(fold, setting):
        calls.append(setting)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(cases, owners, protocol, grid, folds=2, journal=Journal(path), progress=kill)
    assert sum(bool(line) for line in path.read_text().splitlines()) == 2
    assert search(cases, owners, protocol, grid, folds=2, journal=Journal(path)) == whole


def _run(out, monkeypatch, capsys, *more):
    grid = ["--grid", "training.learning_rate=0.01,0.3", "--grid", "selection.k=5"]
    monkeypatch.setattr(
        "sys.argv", ["fedmidline-sim", "search", "--out", str(out), "--folds", "3", "--json", *grid, *more]
    )
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return ended.value.code, printed.out
