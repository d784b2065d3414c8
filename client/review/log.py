"""log: everything that happened in the review, one line each, in a chained log (client/chained_log.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from client.chained_log import ChainedLog, Line, LogWords
from client.review.events import EVENT, Event
from common.privacy.hash_chain import Chain, ChainFault

__all__ = ["LogLine", "ReviewLog"]

WORDS = LogWords(
    code="review-log",
    field="review log",
    name="The review log",
    without_it="nothing is decided",
    then="then do it again",
    mend="Restore the review folder of the cache from a backup; the log must not be edited.",
)


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
        self._log = ChainedLog(folder / "log.jsonl", clock, WORDS)

    def read(self) -> tuple[LogLine, ...]:
        """All events; Refused `review-log-broken` names the first line that does not fit."""
        return self._events(self._log.read())

    @contextmanager
    def writing(self) -> Iterator[tuple[tuple[LogLine, ...], Callable[[str, Event], None]]]:
        """Alone with the log: yields what it holds and the function that appends one event; other writers wait.

        Refused `review-log-unwritable`: then nothing was decided.
        """
        with self._log.writing() as writer:

            def append(pseudonym: str, event: Event) -> None:
                writer.append({"case": pseudonym, "event": event.model_dump(mode="json")})

            yield self._events(writer.chain), append

    def _events(self, chain: Chain) -> tuple[LogLine, ...]:
        if chain.fault is not None:
            raise self._log.broken(chain.fault)
        return tuple(map(self._parse, chain.lines))

    def _parse(self, line: Line) -> LogLine:
        try:
            return LogLine(line["number"], line["at"], line["case"], EVENT.validate_python(line["event"]))
        except (KeyError, ValidationError):
            raise self._log.broken(ChainFault(line["number"], "it cannot be read")) from None
