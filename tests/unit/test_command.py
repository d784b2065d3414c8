"""Commands end with the exit code of what happened; words on standard error, JSON on standard output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.command import new_command, run_command
from common.errors import ConfigError, QuorumLost, Refused, StudyError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("raised", "code"), [(ConfigError, 2), (Refused, 3), (QuorumLost, 4), (KeyboardInterrupt, 4), (None, 0)]
)
def test_exit_codes(raised, code, monkeypatch, capsys):
    command = new_command("For a test.")

    @command.command()
    def act() -> None:
        if raised is not None:
            raise raised("some-code", problem="It broke.", fix="Mend it.") if issubclass(raised, StudyError) else raised

    monkeypatch.setattr(sys, "argv", ["act"])

    with pytest.raises(SystemExit) as ended:
        run_command(command)

    assert ended.value.code == code
    assert capsys.readouterr().out == ""


def test_a_wrong_option_is_bad_input():
    done = subprocess.run(
        [sys.executable, "-c", "from client.cli import main; main()", "check", "--sit", "x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "--sit" in done.stderr


def test_a_missing_site_file_is_told():
    done = subprocess.run(
        [sys.executable, "-c", "from client.cli import main; main()", "check", "--site", "nowhere.yaml", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "config-unreadable" in done.stderr
