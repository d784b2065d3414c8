"""Settings: all faults at once, unknown keys refused, fingerprints that mean something."""

from __future__ import annotations

import pytest

from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.errors import ConfigError


def test_all_faults_of_a_file_at_once():
    """Field, value and cure of each; the wire-safe face holds no value."""
    text = "name: Not Good\nfoo: 1\nsplit: {test_fraction: 3, bar: 2}\ntraining: {rounds: -1}"

    with pytest.raises(ConfigError) as caught:
        parse_settings(Protocol, text, source="p.yaml")

    told = caught.value.explain()
    assert all(word in told for word in ("p.yaml", "'Not Good'", "foo", "split.bar", "got 3", "training.rounds"))
    assert "Known here: test_fraction" in told
    assert "Not Good" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a list", "name: [", ""])
def test_what_is_no_settings_file(text):
    with pytest.raises(ConfigError):
        parse_settings(Protocol, text, source="p.yaml")


def test_a_name_changes_nothing_and_training_keeps_the_features():
    """The feature fingerprint is the cache key: another learning rate must not prepare all cases again."""
    one = Protocol(name="one")
    two = Protocol(name="two")
    trained = Protocol.model_validate({"name": "one", "training": {"rounds": 3}})
    binned = Protocol.model_validate({"name": "one", "radiomics": {"preset": "paper_default"}})

    assert one.fingerprint() == two.fingerprint()
    assert one.fingerprint() != trained.fingerprint()
    assert one.feature_fingerprint() == trained.feature_fingerprint()
    assert one.feature_fingerprint() != binned.feature_fingerprint()
