"""Settings: all faults at once, unknown keys refused, fingerprints that mean something."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.errors import ConfigError
from tests.builders import small_protocol

BOTH_ONE = (("T1CE", "FLAIR"), ("T1CE",))


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


def test_one_sequence_alone_is_another_set_of_features():
    """851 radiomics features, another key in the cache; both sequences keep the key that they had before the setting."""
    both, one = (
        small_protocol(radiomics={"sequences": s}, visual={"sequences": s, "crop_voxels": 16}) for s in BOTH_ONE
    )

    assert len(one.radiomics.names()) == 851
    assert all(name.startswith("T1CE_") for name in one.radiomics.names())
    assert one.feature_fingerprint() != both.feature_fingerprint()
    assert both.feature_fingerprint() == small_protocol(visual={"crop_voxels": 16}).feature_fingerprint()
    assert one.preparation_fingerprint() == both.preparation_fingerprint()


@pytest.mark.parametrize("name", ["t1ce_only", "flair_only", "paper", "recommended"])
def test_the_shipped_protocols_can_be_read(name):
    path = Path(__file__).parents[2] / "site_configs" / "protocols" / f"{name}.yaml"

    assert parse_settings(Protocol, path.read_text(), source=path.name).name == name.replace("_", "-")


def test_settings_that_do_not_go_together_are_no_unknown_key():
    text = "name: a\nsegmentation: {network: {architecture: unet, channels: [8, 16, 32, 64]}}\n"

    with pytest.raises(ConfigError, match="config-invalid") as caught:
        parse_settings(Protocol, text, source="protocol.yaml")

    assert caught.value.field == "(file)"
