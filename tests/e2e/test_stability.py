"""Only stable features are chosen where the protocol says so, and stability is that of the pooled measurements."""

from __future__ import annotations

import numpy as np
import pytest

from client.site import open_site
from client.tasks.load_cohort import load_repeats
from common.catalogue import radiomics_names
from common.config.protocol import Protocol
from common.config.visual import VisualSettings
from common.errors import InputError
from common.stats import icc
from server.phases.qualify import Qualify
from server.phases.stability import Stability, admitted
from server.state import StudyState
from simulation.engines import run_local
from simulation.oracle import pooled_oracle
from tests.builders import pool, small_protocol, write_federation

SIZES = {"aachen": 16, "bern": 24}
SHAKY = 20
"""The first features carry the label (see builders) and are made to change at random."""


def _protocol(**selection: object) -> Protocol:
    return small_protocol(
        radiomics={"perturbations": 5}, visual=VisualSettings(variant="none"), selection={"k": 10, **selection}
    )


def _shake(federation):
    rng = np.random.default_rng(0)
    for site in federation.sites.values():
        for path in (site.parent / "cache" / "features").glob("*/repeats.npy"):
            repeats = np.load(path)
            repeats[:, :SHAKY] = rng.standard_normal((len(repeats), SHAKY)) * 50
            np.save(path, repeats)


def _repeats(federation):
    return np.concatenate([load_repeats(open_site(path)) for path in federation.sites.values()])


@pytest.mark.parametrize("method", ["mutual_information", "decorrelated"])
def test_unstable_features_are_not_chosen(method, tmp_path):
    federation = write_federation(tmp_path, _protocol(method=method, smallest_icc=0.75), SIZES)
    _shake(federation)

    state = run_local(federation.study, list(federation.sites.values()))

    shaky = set(radiomics_names()[:SHAKY])
    assert "completed" == state.status()
    assert not shaky & set(state.selection.signature)
    repeats = _repeats(federation)
    whole = icc.finish(icc.summarise(repeats, repeats.mean(axis=(0, 1))))
    np.testing.assert_allclose(state.icc, whole.one_way, atol=1e-10)
    oracle = pooled_oracle(pool(federation), federation.protocol, site="all", repeats=repeats)
    assert oracle.model.signature == state.selection.signature
    assert 1702 - SHAKY == admitted(state).sum()


def test_without_the_option_they_are(tmp_path):
    federation = write_federation(tmp_path, _protocol(), SIZES)
    _shake(federation)

    state = run_local(federation.study, list(federation.sites.values()))

    assert state.icc is None
    assert set(radiomics_names()[:SHAKY]) & set(state.selection.signature)


def test_too_few_stable_features_stop_the_study(tmp_path):
    federation = write_federation(tmp_path, _protocol(smallest_icc=0.9999), SIZES)

    with pytest.raises(InputError, match="too-few-stable-features"):
        run_local(federation.study, list(federation.sites.values()))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"selection": {"smallest_icc": 0.8}}, "perturbations"),
        ({"selection": {"method": "fixed_signature"}, "radiomics": {"preset": "thick_slice_2d"}}, "fixed_signature"),
        ({"selection": {"k": 19}, "radiomics": {"features": radiomics_names()[:5]}}, "selection.k"),
    ],
)
def test_protocols_that_do_not_fit(changes, says):
    with pytest.raises(ValueError, match=says):
        small_protocol(**changes)


def test_phases_ask_only_when_told():
    state = StudyState(study="trial", protocol=_protocol(), sites=("a",))

    assert Stability().request(state) is None
    assert admitted(state).all()
    assert Qualify().request(state) is not None
