"""records: messages <-> Flower's records; the only file in common/ that knows Flower.

Arrays travel in an ArrayRecord (raw .npy, no pickle), everything else as one JSON text.
"""

from __future__ import annotations

import hashlib
import io
import math
import tokenize
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from pydantic import ValidationError

from common.errors import WireError
from common.messages.base import NOT_FINITE, Message, Refusal
from common.messages.plain import from_plain, to_plain

__all__ = ["digest", "from_records", "is_refusal", "size_in_bytes", "to_records"]

Kind = TypeVar("Kind", bound=Message)

UNREADABLE = (
    *(KeyError, ValueError, TypeError, AttributeError, EOFError, OverflowError, RecursionError),
    *(SyntaxError, tokenize.TokenError),  # numpy reads the header of .npy as Python's words
)
"""How text or arrays end that are none."""


def to_records(message: Message) -> RecordDict:
    """Write `message` as records, its type's name beside it."""
    text, arrays = to_plain(message)
    return RecordDict(
        {
            "arrays": ArrayRecord({name: FlowerArray(array) for name, array in arrays.items()}),
            "message": ConfigRecord({"kind": type(message).__name__, "json": text}),
        }
    )


def from_records(records: RecordDict, kind: type[Kind]) -> Kind:
    """Read records as a `kind`; WireError says what is wrong without quoting a value."""
    head = records.config_records.get("message")
    if head is None or head.get("kind") != kind.__name__:
        raise _malformed("kind", f"Expected a {kind.__name__}.")
    try:
        arrays = {n: _read_array(a) for n, a in records.array_records.get("arrays", ArrayRecord()).items()}
        return from_plain(kind, str(head["json"]), arrays)
    except ValidationError as error:
        # The library's text quotes values; only the places may be told, and of those none that the sender made up.
        fields = ", ".join(sorted({_place(kind, fault["loc"]) for fault in error.errors(include_url=False)}))
        if any(fault["type"] in {NOT_FINITE, "finite_number"} for fault in error.errors()):
            raise WireError(
                "message-not-finite",
                field=fields,
                problem="The message holds NaN or infinity.",
                fix="Look for damaged features or a learning rate that is too high at the site that sent it.",
            ) from None
        raise _malformed(fields, "Fields are missing, unknown, or of another type.") from None
    except UNREADABLE:
        raise _malformed("json", "The message's text cannot be read.") from None


def is_refusal(records: RecordDict) -> bool:
    """Whether the records hold a Refusal."""
    head = records.config_records.get("message")
    return head is not None and head.get("kind") == Refusal.__name__


def size_in_bytes(records: RecordDict) -> int:
    """Payload: array data and JSON text, without the transport's framing."""
    arrays = sum(len(a.data) for a in records.array_records.get("arrays", ArrayRecord()).values())
    return arrays + len(str(records["message"]["json"]))


def digest(records: RecordDict) -> str:
    """SHA-256 over the payload: kind, JSON text, and every array by name; the same on both sides of the wire."""
    found = hashlib.sha256()
    arrays = records.array_records.get("arrays", ArrayRecord())
    parts = [str(records["message"][part]).encode() for part in ("kind", "json")]
    parts += [part for name in sorted(arrays) for part in (name.encode(), arrays[name].data)]
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.hexdigest()


def _read_array(array: FlowerArray) -> np.ndarray[Any, Any]:
    """Only .npy, and only where the header tells exactly as many numbers as there are: what it tells is allocated."""
    data, npy = bytes(array.data), np.lib.format
    stream = io.BytesIO(data)
    if npy.read_magic(stream) != (1, 0):  # type: ignore[no-untyped-call]  # numpy's
        raise ValueError("another version of .npy")
    shape, _, dtype = npy.read_array_header_1_0(stream)  # type: ignore[no-untyped-call]  # numpy's
    if dtype.hasobject or any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError("not as long as it says")
    stream.seek(0)
    return np.asarray(npy.read_array(stream, allow_pickle=False))  # type: ignore[no-untyped-call]  # numpy's


def _place(kind: type[Message], place: tuple[int | str, ...]) -> str:
    """The message's own field; what lies below it may be a name that the sender chose."""
    first = str(place[0]) if place else ""
    return first if first in kind.model_fields else "unknown field"


def _malformed(field: str, problem: str) -> WireError:
    return WireError(
        "message-malformed",
        field=field,
        problem=problem,
        fix="Both sides must run the same version of fedmidline.",
    )
