"""A site whose software computes other values cannot join, and is told which feature and by how much."""

from __future__ import annotations

import numpy as np
import pytest

from client.features import phantom
from client.features.phantom import check_phantom, expected_values, measure_phantom
from client.site import open_site
from client.tasks.qualify import answer
from common.config.radiomics import RadiomicsSettings
from common.errors import ProtocolMismatch
from common.messages.qualify import QualifyReply, QualifyRequest
from common.stats.value_lock import compare_values
from server.phases.qualify import Qualify
from server.state import StudyState
from tests.builders import small_protocol, write_site

HHH = "T1CE_wavelet-HHH_firstorder_Variance"


def _request(protocol):
    return QualifyRequest(fingerprint=protocol.fingerprint(), protocol=protocol.model_dump(mode="json"))


def test_this_computer_has_the_expected_values():
    assert check_phantom(RadiomicsSettings()) is None


def test_the_largest_difference_is_named():
    expected = {"a": 1.0, "b": 2.0, "c": 0.0}

    found = compare_values(expected, {"a": 1.0 + 1e-5, "b": 2.2, "c": 1e-10})

    assert ("b", 2) == (found.feature, found.features)
    assert found.relative == pytest.approx(0.1)
    assert "c" == compare_values(expected, {"a": 1, "b": 2}).feature
    assert compare_values({"a": 1.0}, {"a": np.nan}) is not None


def test_a_site_with_other_values_refuses(tmp_path, monkeypatch):
    """As after an update that changed the wavelet."""
    protocol = small_protocol()
    site = open_site(write_site(tmp_path, "north", protocol, 12, seed=0))
    shifted = {
        name: value * (1.001 if name == HHH else 1) for name, value in expected_values(protocol.radiomics).items()
    }
    monkeypatch.setattr(phantom, "expected_values", lambda _: shifted)

    with pytest.raises(ProtocolMismatch, match=rf"features-differ \[{HHH}\].*1\.0e-03"):
        answer(_request(protocol), site)


def test_a_site_with_the_expected_values_joins(tmp_path):
    protocol = small_protocol()
    site = open_site(write_site(tmp_path, "north", protocol, 12, seed=0))

    reply = answer(_request(protocol), site)

    assert (1702,) == reply.phantom.shape


def _reply(site, values):
    return QualifyReply(site=site, training_cases=(5, 5), test_cases=(1, 1), versions={}, phantom=values)


def test_the_server_compares_sites_with_each_other():
    """Another wavelet has no shipped values; of three sites the one apart is excluded by name."""
    protocol = small_protocol()
    values = measure_phantom(protocol.radiomics)
    other = values.copy()
    other[protocol.radiomics.names().index(HHH)] *= 1.01
    state = StudyState(study="trial", protocol=protocol, sites=("a", "b", "c"))

    after = Qualify().conclude(state, {"a": _reply("a", values), "b": _reply("b", other), "c": _reply("c", values)})

    assert {"a", "c"} == set(after.qualified)
    assert after.excluded["b"].startswith(f"features-differ: {HHH} by 1.0e-02")


def test_another_wavelet_is_locked_by_its_bands(monkeypatch):
    """Whatever the study's features are; a change of the library is named by the band it shows in."""
    settings = RadiomicsSettings(wavelet="db2", features=("FLAIR_original_firstorder_Mean",))
    expected = expected_values(settings)

    assert 9 == len(expected)
    assert check_phantom(settings) is None
    monkeypatch.setattr(phantom, "WAVELETS", phantom.WAVELETS.replace("\ndb2 ", "\nold ").replace("\ndb3 ", "\ndb2 "))
    assert "90Percentile" in check_phantom(settings).feature
    assert 8 == check_phantom(settings).features
