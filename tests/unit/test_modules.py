"""Commands as modules, and two replays in one folder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from common.deployment.lock import hold_lock
from common.errors import Refused
from simulation import run_replay as replay
from simulation.cohort.make_cohort import CohortSettings
from simulation.replay import ReplaySettings
from tests.builders import small_protocol


@pytest.mark.parametrize("module", ["client.cli", "server.cli", "simulation.cli"])
def test_a_command_can_be_called_as_a_module(module):
    told = subprocess.run(
        [sys.executable, "-m", module, "--help"], check=False, capture_output=True, text=True, timeout=120
    )

    assert (0, True) == (told.returncode, "Research use only" in told.stdout)


def test_a_second_replay_in_one_folder_is_refused(tmp_path):
    """Before it touches anything."""
    with (
        hold_lock(tmp_path / "replay.lock", what="Another"),
        pytest.raises(Refused, match="already-running: A replay in this folder"),
    ):
        replay.run_replay(tmp_path, small_protocol(), ReplaySettings(), CohortSettings(), workers=1)

    assert ["replay.lock"] == [path.name for path in tmp_path.iterdir()]
