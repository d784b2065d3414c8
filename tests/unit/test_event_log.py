"""The structured logs: one object a line, words on the terminal, and never more than two files of 20 MiB."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

from common.deployment import event_log
from common.deployment.event_log import EventLog
from common.deployment.keeper import Keeper, Program


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_an_object_and_the_terminal_gets_words(tmp_path, capsys):
    EventLog(tmp_path / "e.jsonl")("ended", program="door", code=-9, reason="two\nlines")

    (row,) = rows(tmp_path / "e.jsonl")
    when = datetime.fromisoformat(row.pop("time"))
    assert {"event": "ended", "program": "door", "code": -9, "reason": "two\nlines"} == row
    assert when.utcoffset() == timedelta(0)
    assert abs(when - datetime.now(UTC)) < timedelta(minutes=1)
    assert " ended program=door code=-9 reason=two" in capsys.readouterr().err


def test_a_large_log_is_put_aside_once(tmp_path, monkeypatch):
    monkeypatch.setattr(event_log, "LARGEST_LOG", 1000)
    tell = EventLog(tmp_path / "e.jsonl", echo=False)
    for number in range(100):
        tell("exchange", round=number)

    kept = [row["round"] for row in (*rows(tmp_path / "e.old.jsonl"), *rows(tmp_path / "e.jsonl"))]
    assert kept == list(range(kept[0], 100))
    assert ["e.jsonl", "e.old.jsonl"] == sorted(path.name for path in tmp_path.iterdir())
    assert all(path.stat().st_size < 1100 for path in tmp_path.iterdir())


def test_a_program_that_talks_without_end_fills_no_disk(tmp_path, monkeypatch):
    """It goes on writing to the file that it holds open."""
    monkeypatch.setattr(event_log, "LARGEST_LOG", 5000)
    chatter = Program("a", ["/bin/sh", "-c", "while :; do echo 'INFO: nothing new'; sleep .0005; done"])
    keeper = Keeper([chatter], logs=tmp_path, tell=EventLog(tmp_path / "e.jsonl", echo=False))
    log, aside = tmp_path / "a.log", tmp_path / "a.old.log"
    try:
        end = time.monotonic() + 60
        while not (aside.exists() and 0 < log.stat().st_size < aside.stat().st_size):
            assert time.monotonic() < end
            keeper.look()
            time.sleep(0.05)
    finally:
        keeper.stop()

    assert {"INFO: nothing new"} == set(aside.read_text().splitlines() + log.read_text().splitlines())
    assert log.read_bytes()[:4] == b"INFO", "no hole where the old lines were"
