"""audit_log: everything that left this hospital, one line each, chained by hashes; only ever appended to.

A line is on the disk before its reply leaves: after a kill at any moment the log may name a reply that did not
arrive, never the reverse.  Half a line at the end never let anything out; the next writer takes it off and says so
in a line of its own.  A small file beside the log holds the newest hash, so that lines cut off the end are missed.
Who may write both files can forge both: the log shows care and accidents, and tampering only to those who noted
down a hash (`fedmidline-site egress --known`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

from common.errors import Refused
from common.privacy.hash_chain import START, Chain, ChainFault, open_chain, seal_line

__all__ = ["AuditLog", "AuditReport", "Writer"]

Line = dict[str, Any]


@dataclass(frozen=True)
class AuditReport:
    """lines: up to the first fault.  torn: bytes of a line that was not finished; nothing left with it."""

    lines: tuple[Line, ...]
    fault: ChainFault | None
    torn: int
    newest: str


@dataclass(frozen=True)
class Writer:
    """Alone with the log: what it holds, and how to add a line."""

    lines: tuple[Line, ...]
    append: Callable[[Line], None]


class AuditLog:
    """One site's log; path: its file, beside which the newest hash lies."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._path, self._head, self._clock = path, path.with_suffix(".head"), clock

    def verify(self, known: str = "") -> AuditReport:
        """Read everything; the first line that is not as it was written is named, and lines missing at the end.

        known: a hash noted down earlier, which must still be there.
        """
        chain = open_chain(self._bytes())
        fault = chain.fault or self._missing_end(chain)
        hashes = {START, *(str(line["hash"]) for line in chain.lines)}
        if fault is None and known and known not in hashes:
            fault = ChainFault(len(chain.lines) + 1, "no line has the hash that was noted down")
        return AuditReport(chain.lines, fault, len(chain.torn), chain.newest)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Wait for other writers, of any process, and hold the log.

        Refused `audit-log-unwritable` for a full or closed disk, `audit-log-broken` for a log that was changed: then
        nothing may leave.
        """
        with self._locked() as file:
            chain = open_chain(self._bytes())
            fault = chain.fault or self._missing_end(chain)
            if fault is not None:
                raise _broken(fault)
            number, previous = len(chain.lines), chain.newest

            def append(body: Line) -> None:
                nonlocal number, previous
                at = self._clock().isoformat(timespec="seconds")
                text, found = seal_line({"at": at, **body}, number + 1, previous)
                self._write(file, text, found)
                number, previous = number + 1, found

            if chain.torn:
                os.ftruncate(file.fileno(), chain.whole)
                digest = hashlib.sha256(chain.torn).hexdigest()
                append({"event": "repaired", "bytes": len(chain.torn), "digest": digest})
            yield Writer(chain.lines, append)

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("ab", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise _unwritable(error) from None
        with file:
            yield file

    def _bytes(self) -> bytes:
        return self._path.read_bytes() if self._path.exists() else b""

    def _missing_end(self, chain: Chain) -> ChainFault | None:
        """The head names the newest line, or, after a kill in between, the one before it."""
        head = self._head.read_text(encoding="ascii", errors="replace").strip() if self._head.exists() else START
        last = chain.lines[-1]["previous"] if chain.lines else START
        if head in (chain.newest, last):
            return None
        return ChainFault(len(chain.lines) + 1, "lines at the end are missing, or the .head file is another log's")

    def _write(self, file: FileIO, text: bytes, found: str) -> None:
        """The line, then the head; a line that cannot be flushed is taken back, for its reply stays."""
        length = os.fstat(file.fileno()).st_size
        try:
            _write_all(file, text)
            beside = self._head.with_suffix(".new")
            with beside.open("wb", buffering=0) as head:
                _write_all(head, found.encode())
            beside.replace(self._head)
        except OSError as error:
            os.ftruncate(file.fileno(), length)
            raise _unwritable(error) from None


def _write_all(file: FileIO, data: bytes) -> None:
    """To the disk itself; a write in part is gone on with, and then the full disk raises."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _unwritable(error: OSError) -> Refused:
    return Refused(
        "audit-log-unwritable",
        field="egress",
        problem="The site's audit log cannot be written, so nothing may leave.",
        fix="Check that the site's cache is writable and its disk not full; the study then goes on.",
        local=f"{type(error).__name__}: {error}",
    )


def _broken(fault: ChainFault) -> Refused:
    return Refused(
        "audit-log-broken",
        field="egress",
        problem="The site's audit log is not as it was written, so nothing may leave.",
        fix="Run `fedmidline-site egress --verify`; find out who changed it, then move log and .head file aside together.",
        local=f"line {fault.line}: {fault.why}",
    )
