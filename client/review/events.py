"""events: what can happen to a case under review; the closed list of lines in the log.

A kind's fields never change their meaning: a new kind is added instead.  No event holds a label, a score
or an image; masks and images are named by their fingerprints.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from common.errors import InputError

__all__ = [
    "EVENT",
    "Accepted",
    "Done",
    "Drafted",
    "Edit",
    "Event",
    "Invalidated",
    "Opened",
    "PutBack",
    "Rejected",
    "Released",
    "Reopened",
    "SentBack",
    "event_of",
]

Reader = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[str, Field(max_length=500)]
Reason = Annotated[str, Field(min_length=1, max_length=500)]
Edit = Literal["none", "minor", "major"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Drafted(_Event):
    """An automatic mask was made of these files; whether two readers see it was drawn by the protocol's seed."""

    kind: Literal["drafted"] = "drafted"
    preparation: str
    brain: Fingerprint
    automatic: Fingerprint
    volume_ml: float
    components: int
    flags: tuple[Words, ...] = ()
    uncertainty: float = 0.0
    second_reader: bool = False


class Released(_Event):
    """The reader's files lie ready."""

    kind: Literal["released"] = "released"


class Opened(_Event):
    """A reader took the case, to read it first or second."""

    kind: Literal["opened"] = "opened"
    reader: Reader


class PutBack(_Event):
    """The reader gave it back unread."""

    kind: Literal["put_back"] = "put_back"


class Done(_Event):
    """The reader's mask, how much was edited by the reader's own judgement, and the automatic comparison.

    hd95_mm is None where it is not defined.
    """

    kind: Literal["done"] = "done"
    reader: Reader
    edit: Edit
    minutes: Annotated[float, Field(ge=0, le=600)]
    mask: Fingerprint
    dice: float
    hd95_mm: float | None
    volume_ml: float
    volume_change_ml: float
    added_voxels: int
    removed_voxels: int
    flags: tuple[Words, ...] = ()
    note: Words = ""


class SentBack(_Event):
    """The mask was not good enough: to be read again from the start."""

    kind: Literal["sent_back"] = "sent_back"
    by: Reader
    reason: Reason


class Accepted(_Event):
    """The mask of this reading (1 or 2) enters the study."""

    kind: Literal["accepted"] = "accepted"
    by: Reader
    reading: Literal[1, 2] = 1


class Rejected(_Event):
    """The case does not enter the study, and why."""

    kind: Literal["rejected"] = "rejected"
    by: Reader
    reason: Reason


class Reopened(_Event):
    """An ended review begins again."""

    kind: Literal["reopened"] = "reopened"
    by: Reader
    reason: Reason


class Invalidated(_Event):
    """Something upstream of the mask changed: input files, preparation settings, brain mask."""

    kind: Literal["invalidated"] = "invalidated"
    reason: Reason


Event = Annotated[
    Drafted | Released | Opened | PutBack | Done | SentBack | Accepted | Rejected | Reopened | Invalidated,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
Kind = TypeVar("Kind", bound=_Event)


def event_of(kind: type[Kind], **values: Any) -> Kind:
    """An event of what a person typed; InputError `review-entry-invalid` names every field that cannot be taken."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = {".".join(map(str, fault["loc"])): fault["msg"] for fault in error.errors()}
        raise InputError(
            "review-entry-invalid",
            field=", ".join(faults),
            problem="An entry of the review cannot be taken.",
            fix="Readers are letters, digits, - and _ (up to 32); minutes 0 to 600; a reason is needed, up to 500 letters.",
            local="; ".join(f"{name}: {text}" for name, text in faults.items()),
        ) from None
