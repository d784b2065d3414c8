"""masking: what a request carries when its answer is to be a masked summand (common/privacy/secure_sum.py, step 3)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Masking", "Session"]

Session = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""Names one sum; drawn by the server."""


class Masking(BaseModel):
    """sealed: sender -> receiver -> encrypted shares, hexadecimal; its senders are the partners of the sum."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    session: Session
    sealed: dict[str, dict[str, str]]
