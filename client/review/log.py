"""log: everything that happened in the review, one line each, in a chained log (client/chained_log.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from client.chained_log import ChainedLog, Line
from client.review.events import EVENT, Event
from common.errors import Refused
from common.privacy.hash_chain import Chain, ChainFault

__all__ = ["LogLine", "ReviewLog"]


@dataclass(frozen=True)
class LogLine:
    """number: from 1; at: when, in UTC."""

    number: int
    at: str
    pseudonym: str
    event: Event


class ReviewLog:
    """The file `log.jsonl` in the site's review folder."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._log = ChainedLog(folder / "log.jsonl", clock, unwritable=_unwritable, broken=_broken)

    def read(self) -> tuple[LogLine, ...]:
        """All events; Refused `review-log-broken` names the first line that does not fit."""
        return _events(self._log.read())

    @contextmanager
    def writing(self) -> Iterator[tuple[tuple[LogLine, ...], Callable[[str, Event], None]]]:
        """Alone with the log: yields what it holds and the function that appends one event; other writers wait.

        Refused `review-log-unwritable`: then nothing was decided.
        """
        with self._log.writing() as writer:

            def append(pseudonym: str, event: Event) -> None:
                writer.append({"case": pseudonym, "event": event.model_dump(mode="json")})

            yield _events(writer.chain), append


def _events(chain: Chain) -> tuple[LogLine, ...]:
    if chain.fault is not None:
        raise _broken(chain.fault)
    return tuple(map(_parse, chain.lines))


def _parse(line: Line) -> LogLine:
    try:
        return LogLine(line["number"], line["at"], line["case"], EVENT.validate_python(line["event"]))
    except (KeyError, ValidationError):
        raise _broken(ChainFault(line["number"], "it cannot be read")) from None


def _unwritable(error: OSError) -> Refused:
    return Refused(
        "review-log-unwritable",
        field="review log",
        problem="The review log cannot be written, so nothing was decided.",
        fix="Check that the site's cache is writable and its disk not full; then do it again.",
        local=f"{type(error).__name__}: {error}",
    )


def _broken(fault: ChainFault) -> Refused:
    return Refused(
        "review-log-broken",
        field="review log",
        problem="The review log was changed after it was written.",
        fix="Restore the review folder of the cache from a backup; the log must not be edited.",
        local=f"line {fault.line}: {fault.why}",
    )
