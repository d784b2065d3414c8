"""The keeper: what ends is started again, alone or together; nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.deployment.event_log import EventLog
from common.deployment.keeper import Keeper, Program
from common.deployment.lock import hold_lock, is_held
from common.errors import Refused

ROOT = Path(__file__).parents[2]


def wait_until(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def program(folder, name):
    """Writes its process number and waits."""
    code = (
        f"import os, time, pathlib; pathlib.Path({str(folder / name)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    return Program(name, [sys.executable, "-c", code])


@pytest.fixture
def events(tmp_path):
    return EventLog(tmp_path / "events.jsonl", echo=False)


def number(path):
    return int(path.read_text()) if path.exists() and path.read_text() else 0


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("together", [False, True])
def test_what_ends_is_started_again(tmp_path, events, together):
    keeper = Keeper([program(tmp_path, "a"), program(tmp_path, "b")], logs=tmp_path, tell=events, together=together)
    try:
        wait_until(lambda: keeper.look() is False and number(tmp_path / "a") and number(tmp_path / "b"))
        first = number(tmp_path / "a"), number(tmp_path / "b")
        keeper.kill("a")
        wait_until(keeper.look)
        wait_until(
            lambda: keeper.look() is False and number(tmp_path / "a") != first[0] and alive(number(tmp_path / "b"))
        )
        if together:
            wait_until(lambda: keeper.look() is False and number(tmp_path / "b") != first[1])
        else:
            assert number(tmp_path / "b") == first[1]
    finally:
        keeper.stop()

    wait_until(lambda: not alive(number(tmp_path / "a")) and not alive(number(tmp_path / "b")))
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {"event": "ended", "program": "a", "code": -9, "again_in_s": 1.0}.items() <= rows[2].items()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_supervisor_leaves_nobody(tmp_path):
    code = (
        "import sys, time, pathlib; sys.path.insert(0, '.'); from common.deployment.keeper import *\n"
        "from common.deployment.event_log import EventLog\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "from tests.unit.test_keeper import program\n"
        "keeper = Keeper([program(folder, 'a')], logs=folder, tell=EventLog(folder / 'e'))\n"
        "while True: keeper.look(); time.sleep(.05)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_until(lambda: number(tmp_path / "a"))
    supervisor.kill()
    supervisor.wait()

    wait_until(lambda: not alive(number(tmp_path / "a")))


def test_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    assert not is_held(path)
    with hold_lock(path, what="A test"):
        assert is_held(path)
        with pytest.raises(Refused, match="already-running"), hold_lock(path, what="A test"):
            pass
    assert not is_held(path)
