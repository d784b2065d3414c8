"""audit_log: everything that left this hospital, one line each, in a chained log (client/chained_log.py).

A line is on the disk before its reply leaves: the log may name a reply that did not arrive, never the reverse.  Half a
line at the end never let anything out; the next writer takes it off and says so in a line of its own.  To notice
tampering by somebody who may write the log, note down a hash (`fedmidline-site egress --known`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.chained_log import ChainedLog, Line, LogWords, Writer
from common.privacy.hash_chain import START, ChainFault

__all__ = ["AuditLog", "AuditReport"]

WORDS = LogWords(
    code="audit-log",
    field="egress",
    name="The site's audit log",
    without_it="nothing may leave",
    then="the study then goes on",
    mend="Run `fedmidline-site egress --verify`; find out who changed it, then move log and .head file aside together.",
)


@dataclass(frozen=True)
class AuditReport:
    """lines: up to the first fault.  torn: bytes of a line that was not finished; nothing left with it."""

    lines: tuple[Line, ...]
    fault: ChainFault | None
    torn: int
    newest: str


class AuditLog:
    """One site's log; path: its file."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._log = ChainedLog(path, clock, WORDS)

    def verify(self, known: str = "") -> AuditReport:
        """Read everything; the first line that is not as it was written is named, and lines missing at the end.

        known: a hash noted down earlier, which must still be there.
        """
        chain, fault = self._log.read(), None
        hashes = {START, *(str(line["hash"]) for line in chain.lines)}
        if known and known not in hashes:
            fault = ChainFault(len(chain.lines) + 1, "no line has the hash that was noted down")
        return AuditReport(chain.lines, chain.fault or fault, len(chain.torn), chain.newest)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Alone with the log.

        Refused `audit-log-unwritable` for a full or closed disk, `audit-log-broken` for a log that was changed: then
        nothing may leave.
        """
        with self._log.writing() as writer:
            torn = writer.chain.torn
            if torn:
                digest = hashlib.sha256(torn).hexdigest()
                writer.append({"event": "repaired", "bytes": len(torn), "digest": digest})
            yield writer
