"""base: what every message has in common.

Rules for change: a field's meaning never changes and a field is never removed; a new meaning is a new
`schema_version`.  A message is frozen, refuses unknown fields and refuses arrays with NaN or infinity,
so that neither side can be poisoned by the other.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict

from common.privacy.disclosure import Disclosure

__all__ = ["Array", "Arrays", "Refusal", "Reply", "Request"]


def _finite(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"array of kind {array.dtype} cannot cross the wire")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("array holds NaN or infinity")
    return array


def _finite_values(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    for array in arrays.values():
        _finite(array)
    return arrays


Array = Annotated[np.ndarray, AfterValidator(_finite)]
Arrays = Annotated[dict[str, np.ndarray], AfterValidator(_finite_values)]


class Message(BaseModel):
    """Frozen, closed, versioned."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    schema_version: Literal[1] = 1


class Request(Message):
    """From the server to a site.  `action` is also the file's name here and in client/tasks."""

    action: ClassVar[str]
    fingerprint: str
    """The protocol's; a site on another protocol refuses."""


class Reply(Message):
    """From a site to the server."""

    site: str

    def discloses(self) -> Disclosure | None:
        """What it tells about cases; None, where the message does not say, keeps it in the hospital."""
        return None

    def without_labels(self) -> Self | None:
        """The same without counts by H3 status, for sites that may not tell them; None where nothing would be left."""
        return None


class Refusal(Reply):
    """A site says no, or could not: a code, never an exception's text (see common/errors.py)."""

    code: str
    field: str = ""
    problem: str = ""
    fix: str = ""
