"""states: where a case stands between its automatic mask and its acceptance, as one pure function.

    draft -> needs_review -> in_review -> reviewed -> (second_read) -> accepted
                 ^                 |          |             |             |
                 `---- sent back, put back, reopened -------'-------------'
    rejected(reason): from any open state.  invalidated: from any state, when anything upstream changed.

`advance(case, event)` gives the next state or refuses; it is the only way from one to another, for a live
event as for a line of the log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from client.review.events import (
    Accepted,
    Done,
    Drafted,
    Event,
    Invalidated,
    Opened,
    PutBack,
    Rejected,
    Released,
    Reopened,
    SentBack,
)
from common.errors import InputError

__all__ = ["FROM", "ReviewCase", "State", "advance", "require_open"]

State = Literal["draft", "needs_review", "in_review", "reviewed", "second_read", "accepted", "rejected", "invalidated"]

FROM: dict[str, frozenset[State | None]] = {
    "drafted": frozenset({None, "invalidated"}),
    "released": frozenset({"draft"}),
    "opened": frozenset({"needs_review", "in_review", "reviewed", "second_read"}),
    "put_back": frozenset({"in_review", "second_read"}),
    "done": frozenset({"in_review", "second_read"}),
    "sent_back": frozenset({"reviewed", "second_read"}),
    "accepted": frozenset({"reviewed", "second_read"}),
    "rejected": frozenset({"needs_review", "in_review", "reviewed", "second_read"}),
    "reopened": frozenset({"accepted", "rejected"}),
    "invalidated": frozenset({"draft", "needs_review", "in_review", "reviewed", "second_read", "accepted", "rejected"}),
}
"""Which state each kind of event may find; the reader's part is checked beside it."""


@dataclass(frozen=True)
class ReviewCase:
    """One case of the queue.

    reader: who has it open now, or had it last; readings: at most two, of different readers; accepted_mask: the
    fingerprint of the mask that enters the study, empty in every state but `accepted`.
    """

    pseudonym: str
    state: State
    material: Drafted
    reader: str = ""
    readings: tuple[Done, ...] = ()
    accepted_mask: str = ""
    reason: str = ""

    @property
    def waits_for_second(self) -> bool:
        """Read once, and drawn for a second reader."""
        return self.material.second_reader and len(self.readings) == 1


def advance(case: ReviewCase | None, event: Event, *, pseudonym: str) -> ReviewCase:  # noqa: PLR0911  # one arm per kind
    """The case after the event.  InputError `review-order` where the event cannot follow, `case-taken` where
    another reader has it, `same-reader-twice` where the second reader is the first.
    """
    before = case.state if case else None
    if before not in FROM[event.kind]:
        raise _out_of_order(pseudonym, before, event.kind)
    if isinstance(event, Drafted):
        return ReviewCase(pseudonym, "draft", event)
    if case is None:
        raise ValueError("only a draft begins a case")
    match event:
        case Released():
            return replace(case, state="needs_review")
        case Opened():
            return _open(case, event)
        case PutBack():
            return replace(case, state="reviewed" if case.readings else "needs_review", reader="")
        case Done():
            return _finish(case, event)
        case Accepted():
            return _accept(case, event)
        case SentBack() | Reopened():
            return replace(case, state="needs_review", reader="", readings=(), accepted_mask="", reason=event.reason)
        case Rejected():
            return replace(case, state="rejected", reason=event.reason)
        case Invalidated():
            return replace(case, state="invalidated", accepted_mask="", reason=event.reason)
    raise ValueError(event)


def _open(case: ReviewCase, event: Opened) -> ReviewCase:
    """Opening twice is the same as once; the second reading is for another reader."""
    if case.state in ("in_review", "second_read") and case.reader != event.reader:
        raise _taken(case.pseudonym, case.reader)
    if case.state == "second_read" and len(case.readings) == 2:
        raise _out_of_order(case.pseudonym, case.state, event.kind)
    if case.state == "reviewed":
        if not case.waits_for_second:
            raise _out_of_order(case.pseudonym, case.state, event.kind)
        if case.readings[0].reader == event.reader:
            raise InputError(
                "same-reader-twice",
                case=case.pseudonym,
                field="reader",
                problem="The second reading needs another reader than the first.",
                fix="Give the case to a colleague.",
            )
        return replace(case, state="second_read", reader=event.reader)
    return case if case.state == "second_read" else replace(case, state="in_review", reader=event.reader)


def require_open(case: ReviewCase, reader: str) -> None:
    """InputError unless this reader has the case open and has not finished it."""
    if case.state not in FROM["done"] or len(case.readings) == 2:
        raise _out_of_order(case.pseudonym, case.state, "done")
    if case.reader != reader:
        raise _taken(case.pseudonym, case.reader)


def _finish(case: ReviewCase, event: Done) -> ReviewCase:
    require_open(case, event.reader)
    state: State = "reviewed" if case.state == "in_review" else "second_read"
    return replace(case, state=state, readings=(*case.readings, event), reason="")


def _accept(case: ReviewCase, event: Accepted) -> ReviewCase:
    """A case drawn for two readers is accepted when both have read it."""
    if len(case.readings) < (2 if case.material.second_reader else 1):
        raise InputError(
            "second-reading-missing",
            case=case.pseudonym,
            field="readings",
            problem="The case was drawn for a second reader, who has not read it yet.",
            fix="Let another reader open and finish it first.",
        )
    if event.reading > len(case.readings):
        raise InputError(
            "reading-missing",
            case=case.pseudonym,
            field="reading",
            problem="There is no second reading of this case.",
            fix="Accept reading 1.",
        )
    return replace(case, state="accepted", accepted_mask=case.readings[event.reading - 1].mask, reason="")


def _out_of_order(pseudonym: str, state: State | None, kind: str) -> InputError:
    needed = ", ".join(sorted(s or "no state yet" for s in FROM[kind]))
    return InputError(
        "review-order",
        case=pseudonym,
        field="state",
        problem=f"`{kind}` cannot follow on `{state or 'nothing'}`.",
        fix=f"It needs a case in: {needed}. `fedmidline-site review list` shows where each stands.",
    )


def _taken(pseudonym: str, reader: str) -> InputError:
    return InputError(
        "case-taken",
        case=pseudonym,
        field="reader",
        problem="Another reader has this case open.",
        fix="Take another case, or let that reader put it back.",
        local=f"open at {reader}",
    )
