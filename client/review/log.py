"""log: everything that happened in the review, one JSON line each, chained by hashes; only ever appended to.

Each line holds the hash of the line before it, so that a line changed, moved or removed breaks the chain; a
small file beside it holds the newest hash, so that lines cut off the end are missed too.  A line is written in
one call and flushed to the disk before the event counts: after a kill the log holds the event or does not, and
half a line at the end, which never counted, is dropped by the next writer.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from client.review.events import EVENT, Event
from common.errors import Refused

__all__ = ["LogLine", "ReviewLog"]

START = "0" * 64


@dataclass(frozen=True)
class LogLine:
    """number: from 1; at: when, in UTC; hash: over everything before it in the line."""

    number: int
    at: str
    pseudonym: str
    event: Event
    hash: str


class ReviewLog:
    """The file `log.jsonl` in the site's review folder."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._path, self._head, self._clock = folder / "log.jsonl", folder / "log.head", clock

    def read(self) -> tuple[LogLine, ...]:
        """All events; Refused `review-log-broken` names the first line that does not fit."""
        whole, _ = _whole_lines(self._path.read_bytes() if self._path.exists() else b"")
        lines: list[LogLine] = []
        for number, text in enumerate(whole, start=1):
            lines.append(_parse(text, number, lines[-1].hash if lines else START))
        head = self._head.read_text().strip() if self._head.exists() else START
        if head != START and head not in {line.hash for line in lines}:
            raise _broken(len(lines) + 1, "lines at the end are missing")
        return tuple(lines)

    @contextmanager
    def writing(self) -> Iterator[tuple[tuple[LogLine, ...], Callable[[str, Event], None]]]:
        """Alone with the log: yields what it holds and the function that appends one event; other writers wait."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            opened = self._path.open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(error) from None
        with opened as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            lines = self.read()
            number, previous = len(lines), lines[-1].hash if lines else START
            os.ftruncate(file.fileno(), _whole_lines(self._path.read_bytes())[1])

            def append(pseudonym: str, event: Event) -> None:
                nonlocal number, previous
                body = {
                    "number": number + 1,
                    "at": self._clock().isoformat(timespec="seconds"),
                    "case": pseudonym,
                    "event": event.model_dump(mode="json"),
                    "previous": previous,
                }
                self._write_line(file, body)
                number, previous = number + 1, _hash(body)

            yield lines, append

    def _write_line(self, file: FileIO, body: dict[str, Any]) -> None:
        """The line and the head, or neither: what cannot be flushed is taken back, for it was not decided."""
        text = (json.dumps({**body, "hash": _hash(body)}) + "\n").encode()
        length = os.fstat(file.fileno()).st_size
        try:
            written = file.write(text)
            os.fsync(file.fileno())
            beside = self._head.with_suffix(".new")
            beside.write_text(_hash(body))
            beside.replace(self._head)
        except OSError as error:
            os.ftruncate(file.fileno(), length)
            raise _unwritable(error) from None
        if written != len(text):
            os.ftruncate(file.fileno(), length)
            raise _unwritable(OSError("written in part"))


def _whole_lines(data: bytes) -> tuple[list[bytes], int]:
    """The lines that end in a newline, and how many bytes they take."""
    length = data.rfind(b"\n") + 1
    return data[:length].splitlines(), length


def _parse(text: bytes, number: int, previous: str) -> LogLine:
    try:
        body: dict[str, Any] = json.loads(text)
        found = body.pop("hash")
        line = LogLine(body["number"], body["at"], body["case"], EVENT.validate_python(body["event"]), found)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        raise _broken(number, "it cannot be read") from None
    if (line.number, body["previous"], line.hash) != (number, previous, _hash(body)):
        raise _broken(number, "its hash does not fit")
    return line


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _unwritable(error: OSError) -> Refused:
    return Refused(
        "review-log-unwritable",
        field="review log",
        problem="The review log cannot be written, so nothing was decided.",
        fix="Check that the site's cache is writable and its disk not full; then do it again.",
        local=f"{type(error).__name__}: {error}",
    )


def _broken(number: int, why: str) -> Refused:
    return Refused(
        "review-log-broken",
        field="review log",
        problem="The review log was changed after it was written.",
        fix="Restore the review folder of the cache from a backup; the log must not be edited.",
        local=f"line {number}: {why}",
    )
