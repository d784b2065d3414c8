"""Ways of training side by side: every arm runs, means what its name says, and repeats to the last bit."""

from __future__ import annotations

import pytest

from common.errors import ConfigError
from simulation.compare import ARMS, compare
from simulation.comparison import comparison
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
    assert first["arms"]["pooled"]["minus_pooled"] == {"mean": 0.0, "se": 0.0, "largest": 0.0}


def test_unknown_arms_are_named(everyone):
    with pytest.raises(ConfigError, match="fedmagic"):
        compare(everyone, ["federated", "fedmagic"], [0])
