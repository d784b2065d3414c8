"""What a site keeps of a model's harmonised features is what it would make anew, and nothing stale is found."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from client.site import open_site
from client.store.harmonised_store import HarmonisedStore
from client.tasks import load_cohort as task
from common.config.harmonisation import HarmonisationSettings
from common.messages.harmoniser import Harmoniser
from common.stats.combat import BatchDesign, Location
from simulation.engines import run_local
from tests.builders import small_protocol, write_federation

COMBAT = HarmonisationSettings(method="combat")
DESIGN = BatchDesign(("a", "b"), np.array([[30.0], [40.0]]), ("age",))
MODEL = Harmoniser.combat(Location(np.zeros(2), np.zeros((1, 2)), np.ones(2), np.ones(2, bool)), {})


@pytest.fixture
def store(tmp_path):
    return HarmonisedStore(tmp_path, "aachen")


def test_everything_the_values_are_made_of_is_in_the_key(store):
    one = (("k1",), ("k2",), DESIGN, MODEL, COMBAT)
    others = [
        (("k3",), ("k2",), DESIGN, MODEL, COMBAT),
        (("k1", "k2"), (), DESIGN, MODEL, COMBAT),
        (("k1",), ("k2",), replace(DESIGN, batch=("b", "a")), MODEL, COMBAT),
        (("k1",), ("k2",), replace(DESIGN, covariates=DESIGN.covariates + 1), MODEL, COMBAT),
        (("k1",), ("k2",), DESIGN, MODEL.model_copy(update={"alpha": np.ones(2)}), COMBAT),
        (("k1",), ("k2",), DESIGN, MODEL.model_copy(update={"cases": (5,)}), COMBAT),
        (("k1",), ("k2",), DESIGN, MODEL, COMBAT.model_copy(update={"mean_only": True})),
    ]

    assert len({store.key(*inputs) for inputs in (one, *others)}) == 1 + len(others)
    assert store.key(*one) == store.key(*one)


def test_the_two_used_last_stay(store, tmp_path):
    for number, key in enumerate(("first", "second", "third")):
        store.save(key, np.full((2, 3), number))
        store.load("first")

    assert [0, None, 2] == [None if v is None else v[0, 0] for v in map(store.load, ("first", "second", "third"))]
    assert 2 == len(list((tmp_path / "harmonised" / "aachen").iterdir()))


def test_a_broken_file_is_none_and_a_closed_disk_no_fault(store, tmp_path):
    store.save("key", np.ones((2, 3)))
    (tmp_path / "harmonised" / "aachen" / "key.npy").write_bytes(b"half")
    assert store.load("key") is None

    (tmp_path / "file").write_text("no folder can be made here")
    closed = HarmonisedStore(tmp_path / "file", "aachen")
    closed.save("key", np.ones((2, 3)))
    assert closed.load("key") is None


@pytest.mark.parametrize("method", ["combat", "site_zscore"])
def test_a_model_is_harmonised_once_per_site(tmp_path, monkeypatch, method):
    protocol = small_protocol(harmonisation=HarmonisationSettings(method=method))
    federation = write_federation(tmp_path, protocol, {"aachen": 16, "bern": 24})
    made, harmonise = [], task._harmonise
    monkeypatch.setattr(task, "_harmonise", lambda site, *rest: (made.append(site), harmonise(site, *rest))[1])

    state = run_local(federation.study, list(federation.sites.values()))

    assert "completed" == state.status()
    assert 2 == len(made)
    site = open_site(federation.sites["bern"])
    kept = task.load_cohort(site, state.harmoniser)
    monkeypatch.setattr(HarmonisedStore, "load", lambda *_: None)
    anew = task.load_cohort(site, state.harmoniser)
    for view in ("training", "test"):
        np.testing.assert_array_equal(getattr(kept, view).table.values, getattr(anew, view).table.values)
        np.testing.assert_array_equal(getattr(kept, view).table.altered, getattr(anew, view).table.altered)


def test_an_age_that_was_mended_is_seen(tmp_path):
    protocol = small_protocol(harmonisation=COMBAT)
    federation = write_federation(tmp_path, protocol, {"aachen": 16, "bern": 24})
    state = run_local(federation.study, list(federation.sites.values()))
    site = open_site(federation.sites["bern"])
    before = task.load_cohort(site, state.harmoniser).training.table.values
    with site.settings.manifest.open() as file:
        rows = list(csv.DictReader(file))
    rows[0]["age_years"] = "5"
    with site.settings.manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    after = task.load_cohort(site, state.harmoniser).training.table.values

    assert not np.array_equal(before, after)
