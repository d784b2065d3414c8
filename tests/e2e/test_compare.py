"""Ways of training side by side: every arm runs, means what its name says, and repeats to the last bit."""

from __future__ import annotations

import json

import pytest

import simulation.compare as compare_module
from client.site import open_site
from common.config.privacy import PrivacySettings, RecordLevelSettings, StatisticsSettings, VotesSettings
from common.errors import ConfigError
from simulation.compare import ARMS, ArmResult, compare
from simulation.comparison import comparison, verdict
from simulation.journal import Journal
from simulation.many_splits import many_splits
from simulation.privacy_table import HEADS, arms, privacy_table
from simulation.replay import ReplayFolder, ReplaySettings
from tests.builders import small_protocol, write_site


@pytest.fixture(scope="module")
def everyone(tmp_path_factory):
    """One centre with 48 cases of three scanners."""
    protocol = small_protocol(training={"rounds": 2, "local_epochs": 2})
    return write_site(tmp_path_factory.mktemp("sites"), "all", protocol, 48, seed=1, scanners=("x", "y", "z"))


def test_every_arm_gives_an_auc(everyone):
    found = {result.name: result for result in compare(everyone, list(ARMS), [0])}

    assert {"alone: x", "alone: y", "alone: z"} < set(found)
    assert all(0 <= value <= 1 for result in found.values() for value in result.auc)
    assert found["federated"].auc == found["fedavgm"].auc
    assert found["low_rank_int8"].bytes_up < 0.3 * found["float32"].bytes_up
    assert found["federated"].auc[0] > 0.9


def test_a_comparison_is_repeatable_and_counts_paired_differences(everyone):
    first = comparison(compare(everyone, ["pooled", "krum"], [0, 1, 2]))
    again = comparison(compare(everyone, ["pooled", "krum"], [0, 1, 2]))

    assert first == again
    assert first["seeds"] == 3
    assert first["arms"]["pooled"]["minus_pooled"] == {
        "mean": 0.0,
        "se": 0.0,
        "largest": 0.0,
        "higher": 0,
        "equal": 3,
    }


def test_an_arm_named_twice_counts_once(everyone):
    once, twice = compare(everyone, ["pooled"], [0]), compare(everyone, ["pooled", "pooled"], [0])

    assert once == twice


def test_arms_of_a_private_protocol_start_from_its_statistics(everyone, monkeypatch):
    """Whatever mutual information would have chosen, the signature is of the candidates that were voted for."""
    protocol = open_site(everyone).protocol
    candidates = protocol.radiomics.names()[:8]
    statistics = StatisticsSettings(
        radiomics=dict.fromkeys(candidates, (0, 1)), visual=(), votes=VotesSettings(picks=3)
    )
    asked = PrivacySettings(record_level=RecordLevelSettings(noise_multiplier=1.0, statistics=statistics))
    voted = protocol.selection.model_copy(update={"method": "votes"})
    # Not checked as a whole: the visual part has no reference here.
    private = protocol.model_copy(update={"privacy": asked, "selection": voted})
    trained, real = [], compare_module.federated_training

    def watched(sites, start, protocol):
        trained.append(start)
        return real(sites, start, protocol)

    monkeypatch.setattr(compare_module, "federated_training", watched)
    compare(everyone, ["federated"], [0], protocol=private)

    assert set(trained[0].signature) <= set(candidates)
    assert 3 <= len(trained[0].signature) <= 8


def test_unknown_arms_are_named(everyone):
    with pytest.raises(ConfigError, match="fedmagic"):
        compare(everyone, ["federated", "fedmagic"], [0])


def test_a_comparison_that_was_stopped_goes_on(everyone, tmp_path, monkeypatch):
    """Killed in the second seed, with half a line written: what was finished is not trained again, and all is equal."""
    whole = compare(everyone, ["pooled", "fedavg"], [0, 1])
    path, trained = tmp_path / "found.jsonl", []
    arms = {
        name: lambda replica, name=name, arm=arm: trained.append(name) or arm(replica) for name, arm in ARMS.items()
    }
    monkeypatch.setattr("simulation.compare.ARMS", arms)

    def kill(seed, arm):
        if (seed, arm) == (1, "fedavg"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(everyone, ["pooled", "fedavg"], [0, 1], journal=Journal(path), progress=kill)
    path.write_text(path.read_text() + '\n{"key": "0123", "fou')
    again = compare(everyone, ["pooled", "fedavg"], [0, 1], journal=Journal(path))
    more = compare(everyone, ["pooled", "fedavg"], [0, 1], journal=Journal(path))

    assert trained == ["pooled", "fedavg", "pooled", "fedavg"]
    assert whole == again == more


def test_another_protocol_is_compared_anew(everyone, tmp_path):
    journal = Journal(tmp_path / "found.jsonl")
    protocols = [small_protocol(training={"rounds": n, "local_epochs": 1}) for n in (1, 2)]
    one, two = (compare(everyone, ["fedsgd"], [0], protocol=p, journal=journal)[0] for p in protocols)

    assert len((tmp_path / "found.jsonl").read_text().split()) >= 2
    assert one == compare(everyone, ["fedsgd"], [0], protocol=protocols[0])[0]
    assert two == compare(everyone, ["fedsgd"], [0], protocol=protocols[1])[0]


def test_the_verdict_says_no_where_the_figures_do():
    def told(federated, pooled, alone):
        table = comparison(
            [ArmResult("federated", federated), ArmResult("pooled", pooled), ArmResult("alone: x", alone)]
        )
        return verdict(table)

    near, above = told((0.90, 0.92, 0.94), (0.90, 0.93, 0.93), (0.80, 0.83, 0.83))
    assert "within 0.02" in near
    assert "NOT" not in near
    assert above.endswith("higher in 3 and equal in 0 of 3 splits: above.")
    far, below = told((0.80, 0.82, 0.84), (0.90, 0.93, 0.93), (0.81, 0.83, 0.85))
    assert "NOT within" in far
    assert below.endswith("NOT above.")
    chance = told((0.90, 0.92, 0.94), (0.90, 0.92, 0.94), (0.95, 0.87, 0.92))[1]
    assert chance.endswith("above on average, but no further than chance.")


def test_the_main_comparison_over_splits(everyone, tmp_path):
    """As the replay's report has it; the command `compare` finds its lines."""
    folder = ReplayFolder(tmp_path, small_protocol(), tmp_path / "cache")
    folder.single_centre.parent.parent.mkdir(exist_ok=True)
    folder.single_centre.parent.symlink_to(everyone.parent)

    found = many_splits(folder, ReplaySettings(splits=2))

    assert found["seeds"] == 2
    assert {"federated", "pooled", "alone: x", "alone: y", "alone: z"} == set(found["arms"])
    assert len(found["verdict"]) == 4
    assert sum(bool(line) for line in (tmp_path / "compare.jsonl").read_text().splitlines()) == 6
    assert many_splits(folder, ReplaySettings(splits=0)) == {}


def test_the_private_arms_make_a_table_of_epsilon_and_auc(everyone):
    """Clipping alone hardly hurts here, more privacy needs more noise, and the words go by the figures."""
    protocol = open_site(everyone).protocol

    table = privacy_table(compare(everyone, arms(), [0, 1]), protocol, 12)

    for head in HEADS:
        rows = [row for row in table["rows"] if row["head"] == head]
        assert [row["target"] for row in rows] == [None, None, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.0]
        noise = [row["noise_multiplier"] for row in rows[1:-1]]
        assert noise == sorted(noise)
        assert all(0 < row["epsilon"] <= row["target"] for row in rows[2:-1])
        assert rows[0]["minus_plain"] == 0.0
    assert len(table["says"]) == len(HEADS) + 2
    assert "fixed" not in " ".join(table["told_without_noise"])
    json.dumps(table, allow_nan=False)
