"""The chained log: every change shows, and a kill at any moment leaves it whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.egress.audit_log import AuditLog
from common.errors import Refused
from common.privacy.hash_chain import START, open_chain, seal_line

ROOT = Path(__file__).parents[2]


def _clock() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def _filled(path: Path, lines: int = 5) -> AuditLog:
    log = AuditLog(path, _clock)
    for number in range(lines):
        with log.writing() as writer:
            writer.append({"event": "left", "action": "moments", "bytes": number, "digest": "d", "code": ""})
    return log


@pytest.mark.parametrize(
    ("change", "line", "why"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b'"bytes": 2', b'"bytes": 7'), *lines[3:]], 3, "was changed"),
        (lambda lines: [*lines[:2], *lines[3:]], 3, "before it is missing"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2, "moved"),
        (lambda lines: lines[:3], 4, "at the end are missing"),
        (lambda lines: [], 1, "at the end are missing"),
        (lambda lines: [*lines, lines[-1]], 6, "moved"),
        (lambda lines: [*lines[:4], b"{not json}\n"], 5, "was changed"),
        (lambda lines: [*lines[:4], seal_line({"at": "later"}, 5, START)[0]], 5, "before it is missing"),
    ],
)
def test_what_was_done_to_the_log_is_named_with_its_line(tmp_path, change, line, why):
    log = _filled(tmp_path / "log.jsonl")
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)

    (tmp_path / "log.jsonl").write_bytes(b"".join(change(lines)))

    fault = log.verify().fault
    assert fault is not None
    assert (line, True) == (fault.line, why in fault.why)
    with pytest.raises(Refused, match="audit-log-broken"), log.writing():
        pass


def test_a_log_forged_as_a_whole_is_found_by_a_hash_noted_down(tmp_path):
    """Line and head rewritten together look whole; the paper in the officer's drawer does not lie."""
    noted = _filled(tmp_path / "a.jsonl").verify().newest
    forged = _filled(tmp_path / "b.jsonl", lines=4)

    assert forged.verify().fault is None
    assert _filled(tmp_path / "c.jsonl", lines=7).verify(noted).fault is None
    assert "noted down" in forged.verify(noted).fault.why


def test_a_torn_last_line_is_told_and_mended(tmp_path):
    log = _filled(tmp_path / "log.jsonl")
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"number": 6, "at"')

    before = log.verify()
    assert (None, 18, 5) == (before.fault, before.torn, len(before.lines))
    with log.writing() as writer:
        writer.append({"event": "left", "bytes": 1, "digest": "d"})
    after = log.verify()

    assert (None, 0, ["repaired", "left"]) == (after.fault, after.torn, [line["event"] for line in after.lines[5:]])


def test_a_kill_between_line_and_head_leaves_a_whole_log(tmp_path):
    log = _filled(tmp_path / "log.jsonl", lines=3)
    head = (tmp_path / "log.head").read_text()
    _filled(tmp_path / "log.jsonl", lines=1)
    (tmp_path / "log.head").write_text(head)

    assert log.verify().fault is None
    with log.writing() as writer:
        writer.append({"event": "left"})
    assert (None, 5) == (log.verify().fault, len(log.verify().lines))


def test_a_kill_between_line_and_head_twice_in_a_row_leaves_a_whole_log(tmp_path, monkeypatch):
    class Killed(BaseException):
        """Nothing catches it, as nothing catches SIGKILL."""

    log, path, replace = _filled(tmp_path / "log.jsonl", lines=3), tmp_path / "log.jsonl", Path.replace
    for lines in (3, 4):

        def die_after_the_line(self, target, lines=lines):
            if len(path.read_bytes().splitlines()) > lines:
                raise Killed
            return replace(self, target)

        with monkeypatch.context() as dying:
            dying.setattr(Path, "replace", die_after_the_line)
            with pytest.raises(Killed):
                _filled(path, lines=1)

    assert (None, 5) == (log.verify().fault, len(log.verify().lines))
    _filled(path, lines=1)
    assert log.verify().fault is None


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from client.egress.audit_log import AuditLog
log = AuditLog(Path(sys.argv[1]), lambda: datetime.now(UTC))
for number in range(int(sys.argv[2])):
    with log.writing() as writer:
        writer.append({"event": "left", "bytes": number, "digest": "x" * 500})
    print(number, flush=True)
"""


def _writer(path: Path, lines: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(lines)], cwd=ROOT, stdout=subprocess.PIPE)


def test_processes_at_once_lose_nothing(tmp_path):
    """A Flower client is a new process for every message."""
    writers = [_writer(tmp_path / "log.jsonl", 25) for _ in range(3)]
    assert [0, 0, 0] == [writer.wait(60) for writer in writers]
    [writer.stdout.close() for writer in writers]

    report = AuditLog(tmp_path / "log.jsonl", _clock).verify()
    assert (None, 75) == (report.fault, len(report.lines))


def test_a_writer_killed_at_any_moment_leaves_a_log_that_goes_on(tmp_path):
    """What was acknowledged is there; the next writer needs no help."""
    path, told = tmp_path / "log.jsonl", 0
    for patience in (0.0, 0.003, 0.01):
        writer = _writer(path, 100_000)
        writer.stdout.readline()
        time.sleep(patience)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        told += 1 + len(writer.stdout.read().splitlines())
        writer.stdout.close()
        report = AuditLog(path, _clock).verify()
        assert report.fault is None
        assert told <= sum(line["event"] == "left" for line in report.lines)
        with AuditLog(path, _clock).writing() as log:
            log.append({"event": "left", "bytes": 0, "digest": ""})
        told = sum(line["event"] == "left" for line in AuditLog(path, _clock).verify().lines)


def _chain(lines: int) -> bytes:
    data, previous = b"", START
    for number in range(1, lines + 1):
        line, previous = seal_line({"event": "left", "bytes": number}, number, previous)
        data += line
    return data


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_a_crash(noise):
    chain = open_chain(noise)

    assert len(noise) == chain.whole + len(chain.torn)
    assert () == chain.lines
    assert (chain.fault is None) == (b"\n" not in noise)


@given(st.integers(1, 6), st.data())
def test_one_changed_byte_is_found(lines, data):
    """Anywhere but in the last newline, whose loss makes the last line a torn one."""
    whole = _chain(lines)
    place = data.draw(st.integers(0, len(whole) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[place]))

    found = open_chain(whole[:place] + bytes([byte]) + whole[place + 1 :])

    assert found.fault is not None
    assert found.fault.line == whole[:place].count(b"\n") + 1
    assert len(found.lines) == found.fault.line - 1
