"""chained_log: a file of lines chained by hashes (common/privacy/hash_chain.py), only ever appended to.

A line is written and flushed to the disk before what it tells counts: after a kill the log holds it or does not, and
half a line at the end never counted.  A small file beside the log holds the newest hash, so that lines cut off the end
are missed.  Who may write both files can forge both: the log shows care and accidents, and tampering only to those who
noted down a hash.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

from common.errors import Refused
from common.privacy.hash_chain import START, Chain, ChainFault, open_chain, seal_line

__all__ = ["ChainedLog", "Line", "LogWords", "Writer"]

Line = dict[str, Any]


@dataclass(frozen=True)
class Writer:
    """Alone with the log: what it holds, and how to add a line."""

    chain: Chain
    append: Callable[[Line], None]


@dataclass(frozen=True)
class LogWords:
    """What the two errors of one log say.

    code: they are `<code>-unwritable`, for a full or closed disk, and `<code>-broken`, for a log that was changed.
    name: what it is called at the beginning of a sentence; without_it: what does not happen then.
    then: once it can be written again; mend: the cure of a log that was changed.
    """

    code: str
    field: str
    name: str
    without_it: str
    then: str
    mend: str


class ChainedLog:
    """path: the log's file, beside which lies the newest hash."""

    def __init__(self, path: Path, clock: Callable[[], datetime], words: LogWords) -> None:
        self._path, self._head, self._clock, self._words = path, path.with_suffix(".head"), clock, words

    def read(self) -> Chain:
        """Everything up to the first line that is not as it was written; lines missing at the end are a fault, too."""
        chain = open_chain(self._path.read_bytes() if self._path.exists() else b"")
        return chain if chain.fault else replace(chain, fault=self._missing_end(chain))

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Wait for other writers, of any process, and hold the log; half a line at its end is taken off.

        Refused `<code>-unwritable` and `<code>-broken`.
        """
        with self._locked() as file:
            chain = self.read()
            if chain.fault is not None:
                raise self.broken(chain.fault)
            number, previous = len(chain.lines), chain.newest

            def append(body: Line) -> None:
                nonlocal number, previous
                at = self._clock().isoformat(timespec="seconds")
                text, found = seal_line({"at": at, **body}, number + 1, previous)
                self._write(file, text, found)
                number, previous = number + 1, found

            if chain.torn:
                os.ftruncate(file.fileno(), chain.whole)
            if self._named_newest() != chain.newest:
                # Killed between line and head; killed there once more, the head would be two lines behind.
                self._name_newest(chain.newest)
            yield Writer(chain, append)

    def broken(self, fault: ChainFault) -> Refused:
        """The error of a log that is not as it was written."""
        return self._refused("broken", "is not as it was written", self._words.mend, f"line {fault.line}: {fault.why}")

    def _unwritable(self, error: OSError) -> Refused:
        fix = f"Check that the site's cache is writable and its disk not full; {self._words.then}."
        return self._refused("unwritable", "cannot be written", fix, f"{type(error).__name__}: {error}")

    def _refused(self, which: str, fault: str, fix: str, local: str) -> Refused:
        words = self._words
        problem = f"{words.name} {fault}, so {words.without_it}."
        return Refused(f"{words.code}-{which}", field=words.field, problem=problem, fix=fix, local=local)

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("ab", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise self._unwritable(error) from None
        with file:
            yield file

    def _missing_end(self, chain: Chain) -> ChainFault | None:
        """The head names the newest line, or, after a kill in between, the one before it."""
        head = self._named_newest()
        last = chain.lines[-1]["previous"] if chain.lines else START
        if head in (chain.newest, last):
            return None
        return ChainFault(len(chain.lines) + 1, "lines at the end are missing, or the .head file is another log's")

    def _write(self, file: FileIO, text: bytes, found: str) -> None:
        """The line, then the head; a line that cannot be flushed is taken back, for what it tells did not happen."""
        length = os.fstat(file.fileno()).st_size
        try:
            _write_all(file, text)
            self._write_head(found)
        except OSError as error:
            os.ftruncate(file.fileno(), length)
            raise self._unwritable(error) from None

    def _named_newest(self) -> str:
        """What the head names."""
        return self._head.read_text(encoding="ascii", errors="replace").strip() if self._head.exists() else START

    def _name_newest(self, found: str) -> None:
        try:
            self._write_head(found)
        except OSError as error:
            raise self._unwritable(error) from None

    def _write_head(self, found: str) -> None:
        beside = self._head.with_suffix(".new")
        with beside.open("wb", buffering=0) as head:
            _write_all(head, found.encode())
        beside.replace(self._head)


def _write_all(file: FileIO, data: bytes) -> None:
    """To the disk itself; a write in part is gone on with, and then the full disk raises."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())
