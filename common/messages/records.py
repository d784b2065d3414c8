"""records: messages <-> Flower's records; the only file in common/ that knows Flower.

Arrays travel in an ArrayRecord (raw .npy, no pickle), everything else as one JSON text.  A name like
`model/weights/fc1.weight` says where in the message an array belongs.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from pydantic import BaseModel, ValidationError

from common.errors import WireError
from common.messages.base import Message, Refusal

__all__ = ["from_records", "is_refusal", "size_in_bytes", "to_records"]

Kind = TypeVar("Kind", bound=Message)
_SET_ASIDE = object()


def to_records(message: Message) -> RecordDict:
    """Write `message` as records, its type's name beside it."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    text = json.dumps(_plain(message, "", arrays), sort_keys=True)
    return RecordDict(
        {
            "arrays": ArrayRecord({name: FlowerArray(array) for name, array in arrays.items()}),
            "message": ConfigRecord({"kind": type(message).__name__, "json": text}),
        }
    )


def from_records(records: RecordDict, kind: type[Kind]) -> Kind:
    """Read records as a `kind`; WireError says what is wrong without quoting a value."""
    try:
        head = records["message"]
        found, text = str(head["kind"]), str(head["json"])
    except KeyError:
        raise _wire("message", "The message has no head.") from None
    if found != kind.__name__:
        raise _wire("kind", f"Expected {kind.__name__}.")
    content = json.loads(text)
    for name, array in records.array_records.get("arrays", {}).items():
        *path, last = name.split("/")
        place = content
        for part in path:
            place = place.setdefault(part, {})
        place[last] = array.numpy()
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        # The library's text quotes values; only the places may be told.
        fields = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
        raise _wire(fields, "Fields are missing, unknown, of another type, or not finite.") from None


def is_refusal(records: RecordDict) -> bool:
    """Whether the records hold a Refusal."""
    head = records.config_records.get("message")
    return head is not None and head.get("kind") == Refusal.__name__


def size_in_bytes(records: RecordDict) -> int:
    """Payload: array data and JSON text, without the transport's framing."""
    arrays = sum(len(a.data) for a in records.array_records.get("arrays", {}).values())
    return arrays + len(str(records["message"]["json"]))


def _plain(value: Any, path: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """`value` as JSON; arrays are put aside under their path."""
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        # A dictionary key may hold no slash: it separates the parts of an array's path.
        plain = {str(k): _plain(v, f"{path}{k}/", arrays) for k, v in value.items()}
        return {k: v for k, v in plain.items() if v is not _SET_ASIDE}
    if isinstance(value, np.ndarray):
        arrays[path.rstrip("/")] = value
        return _SET_ASIDE
    return value


def _wire(field: str, problem: str) -> WireError:
    return WireError(
        "message-malformed",
        field=field,
        problem=problem,
        fix="Both sides must run the same version of fedmidline.",
    )
