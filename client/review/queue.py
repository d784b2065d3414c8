"""queue: who is to be read next, by whom, and what became of it; the log is its only memory.

Doubtful cases come first, then uncertain ones, then by lot, so that the order tells a reader nothing of a
case's label (METHOD section 6).  A label is known to nobody in this room: no function here takes one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from client.review.events import Drafted, Event, Invalidated, Released
from client.review.log import LogLine, ReviewLog
from client.review.masks import MaskStore
from client.review.states import ReviewCase, advance
from common.errors import InputError

__all__ = ["ReviewQueue", "draw_second_readers"]

TELLING = re.compile(r"altered|mutant|mutated|wild|h3|k27|dmg|dipg|gbm|glio", re.IGNORECASE)

Lot = Callable[[str], float]
"""pseudonym -> a number in [0, 1), by the protocol's seed."""


class ReviewQueue:
    """The site's review folder."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._log, self.masks, self.folder = ReviewLog(folder, clock), MaskStore(folder), folder

    def history(self) -> tuple[LogLine, ...]:
        """The whole log, verified."""
        return self._log.read()

    def cases(self) -> dict[str, ReviewCase]:
        """Every case that ever entered, as it stands now."""
        return _fold(self._log.read())

    def find(self, pseudonym: str) -> ReviewCase:
        """InputError `case-not-in-queue` where it is not there."""
        found = self.cases().get(pseudonym)
        if found is None:
            raise InputError(
                "case-not-in-queue",
                case=pseudonym,
                field="case",
                problem="The review queue has no such case.",
                fix="`fedmidline-site review list` names all; `fedmidline-site prepare` fills the queue.",
            )
        return found

    def record(self, pseudonym: str, *events: Event) -> ReviewCase:
        """Let these events happen to a case, one after the other; the first that cannot is refused and not written."""
        with self._log.writing() as (lines, append):
            case = _fold(lines).get(pseudonym)
            for event in events:
                case = advance(case, event, pseudonym=pseudonym)
                append(pseudonym, event)
        if case is None:
            raise ValueError("nothing to record")
        return case

    def enter(self, pseudonym: str, material: Drafted) -> ReviewCase:
        """Put a prepared case into the queue; the same material again changes nothing, other material begins anew."""
        _require_blind(pseudonym)
        known = self.cases().get(pseudonym)
        if known is not None and known.state != "invalidated":
            if same_material(known.material, material):
                return self.record(pseudonym, Released()) if known.state == "draft" else known
            self.record(pseudonym, Invalidated(reason=_what_changed(known.material, material)))
        return self.record(pseudonym, material, Released())

    def ordered(self, lot: Lot) -> list[ReviewCase]:
        """Most urgent first; within one state flagged cases, then uncertain ones, then by lot."""
        states = (
            "needs_review",
            "in_review",
            "reviewed",
            "second_read",
            "draft",
            "invalidated",
            "rejected",
            "accepted",
        )
        return sorted(
            self.cases().values(),
            key=lambda c: (
                states.index(c.state),
                -len(c.material.flags),
                -round(c.material.uncertainty, 3),
                lot(c.pseudonym),
            ),
        )

    def waiting_for(self, reader: str, lot: Lot) -> list[ReviewCase]:
        """What this reader may read: own open cases first, then as `ordered`."""
        mine = [case for case in self.ordered(lot) if _may_read(case, reader)]
        return sorted(mine, key=lambda case: case.state not in ("in_review", "second_read"))


def _may_read(case: ReviewCase, reader: str) -> bool:
    """Open at this reader, unread, or to be read second by another than the first."""
    if case.state in ("in_review", "second_read"):
        return case.reader == reader and len(case.readings) < 2
    first = case.readings[0].reader if case.readings else ""
    return case.state == "needs_review" or (case.state == "reviewed" and case.waits_for_second and first != reader)


def draw_second_readers(pseudonyms: Iterable[str], fraction: float, lot: Lot) -> frozenset[str]:
    """The share of the cohort that two readers see: those with the lowest lots, at least `fraction` of all."""
    by_lot = sorted(pseudonyms, key=lambda p: (lot(p), p))
    return frozenset(by_lot[: math.ceil(fraction * len(by_lot) - 1e-9)])


def _require_blind(pseudonym: str) -> None:
    """The pseudonym is the one word of the manifest that a reader sees."""
    if TELLING.search(pseudonym):
        raise InputError(
            "pseudonym-tells",
            case=pseudonym,
            field="pseudonym",
            problem="A pseudonym names a diagnosis, so that its reader would not be blind to the label.",
            fix="Give the case a neutral pseudonym in the manifest.",
        )


def same_material(one: Drafted, other: Drafted) -> bool:
    """Whether a mask drawn on one is a mask of the other."""
    return (one.preparation, one.brain, one.automatic) == (other.preparation, other.brain, other.automatic)


def _what_changed(before: Drafted, after: Drafted) -> str:
    if before.preparation != after.preparation:
        return "input files or preparation settings changed"
    return "the brain mask changed" if before.brain != after.brain else "the automatic mask changed"


def _fold(lines: Iterable[LogLine]) -> dict[str, ReviewCase]:
    cases: dict[str, ReviewCase] = {}
    for line in lines:
        cases[line.pseudonym] = advance(cases.get(line.pseudonym), line.event, pseudonym=line.pseudonym)
    return cases
