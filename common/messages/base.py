"""base: what every message has in common.

Rules for change: a field's meaning never changes and a field is never removed; a new meaning is a new
`schema_version`.  A message is frozen, refuses unknown fields and refuses arrays with NaN or infinity,
so that neither side can be poisoned by the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from common.messages.masking import Masking
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import FixedPoint

__all__ = ["NOT_FINITE", "Array", "Arrays", "Refusal", "Reply", "Request", "StudyName"]

NOT_FINITE = "not-finite"
"""Type of pydantic's error, so that NaN is told by its name."""


def _finite(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"array of kind {array.dtype} cannot cross the wire")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise PydanticCustomError(NOT_FINITE, "array holds NaN or infinity")
    return array


def _finite_values(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    for array in arrays.values():
        _finite(array)
    return arrays


Array = Annotated[np.ndarray, AfterValidator(_finite)]
Arrays = Annotated[dict[str, np.ndarray], AfterValidator(_finite_values)]


StudyName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,95}$")]
"""A site names files of its cache by it: nothing that could lead out of a folder."""


class Message(BaseModel):
    """Frozen, closed, versioned."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    schema_version: Literal[1] = 1


class Request(Message):
    """From the server to a site.  `action` is also the file's name here and in client/tasks.

    fingerprint: the protocol's; a site on another protocol refuses.
    masking: where the answer is to be a masked summand.
    exchange: its number in the study; the reply repeats it, so that an old answer is known for one.
    """

    action: ClassVar[str]
    fingerprint: str
    masking: Masking | None = None
    exchange: int = 0


class Reply(Message):
    """From a site to the server.

    exchange: of the request that it answers.
    sums: the fields that add up over sites, if all of the reply does, and how they become elements of a ring
    (common/privacy/fixed_point.py); only such replies can be summed securely.
    """

    sums: ClassVar[Mapping[str, FixedPoint]] = {}
    site: str
    exchange: int = 0

    def summands(self) -> dict[str, tuple[Any, float]]:
        """The numbers that are added up and the factor each is to be taken times; by name, `field` or `field:part`."""
        return {name: (getattr(self, name), 1.0) for name in self.sums}

    @classmethod
    def form_of(cls, name: str) -> FixedPoint:
        """Of one of the summands."""
        return cls.sums[name.partition(":")[0]]

    @classmethod
    def of_sums(cls, site: str, totals: Mapping[str, np.ndarray[Any, Any]], request: Request) -> Self:
        """The inverse of `summands`, of their totals; request: what was answered."""
        del request
        whole = {name: int(total) if total.ndim == 0 else total for name, total in totals.items()}
        return cls.model_validate({"site": site, **whole})

    def discloses(self) -> Disclosure | None:
        """What it tells about cases; None, where the message does not say, keeps it in the hospital."""
        return None

    def without_labels(self) -> Self | None:
        """The same without counts by H3 status, for sites that may not tell them; None where nothing would be left."""
        return None


class Refusal(Reply):
    """A site says no, or could not: a code, never an exception's text (see common/errors.py)."""

    code: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    field: Annotated[str, Field(max_length=500)] = ""
    problem: Annotated[str, Field(max_length=2000)] = ""
    fix: Annotated[str, Field(max_length=2000)] = ""
