"""site: what only this hospital knows; it never leaves."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from common.config.base import Settings
from common.config.egress import EgressSettings
from common.config.privacy import BudgetSettings

__all__ = ["SiteSettings"]


def _as_text(value: object) -> object:
    """YAML reads a bare 2024-06-01 as a day."""
    return value.isoformat() if isinstance(value, date) else value


class SiteSettings(Settings):
    """A hospital's private settings.  Relative paths start at the folder of the file itself.

    manifest: CSV, one row per case (see client/ingest/manifest.py for its columns).
    cache: folder for prepared cases; images and features stay in it.
    workers: processes that prepare cases side by side; 0 takes one per core.
    device: `auto` takes a GPU where torch finds one.
    ethics_id, consent_basis, approval_date: of the approval under which the cases are used (METHOD R8); accrual_start
    and accrual_end: months of the first and the last case (R2).
    egress: what the door lets out; the defaults are strict (common/config/egress.py).
    budget: of differential privacy, where a protocol has it (common/config/privacy.py).
    ethics: `refuse` answers no study while one of the three is missing; `warn` only says so.  Synthetic cases need
    no approval: their ethics_id is `synthetic`.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    protocol: Path
    manifest: Path
    cache: Path = Path("cache")
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    ethics_id: str = ""
    consent_basis: Literal["", "consent", "guardian_consent", "waiver", "broad_consent"] = ""
    approval_date: Annotated[str, BeforeValidator(_as_text), Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = ""
    ethics: Literal["refuse", "warn"] = "refuse"
    accrual_start: Annotated[str, Field(pattern=r"^(\d{4}-\d{2})?$")] = ""
    accrual_end: Annotated[str, Field(pattern=r"^(\d{4}-\d{2})?$")] = ""
    egress: EgressSettings = EgressSettings()
    budget: BudgetSettings = BudgetSettings()

    def missing_ethics(self) -> tuple[str, ...]:
        """Names of the fields of R8 that are empty."""
        if self.ethics_id == "synthetic":
            return ()
        fields = ("ethics_id", "consent_basis", "approval_date")
        return tuple(name for name in fields if not getattr(self, name))
