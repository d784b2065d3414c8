"""found_case: a case as it was found on the hospital's disk, before a person has completed the manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Self

__all__ = ["FoundCase", "number_apart"]


@dataclass(frozen=True, repr=False)
class FoundCase:
    """patient: the name by which the hospital's spreadsheet knows the case; with study_date it stays in memory.

    notes: codes of what a person must decide; empty paths where a sequence was not found.
    """

    pseudonym: str
    patient: str
    t1ce_path: str = ""
    flair_path: str = ""
    mask_path: str = ""
    t1ce_series: str = ""
    flair_series: str = ""
    age_years: int | None = None
    sex: str = ""
    scanner: str = ""
    study_date: date | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"FoundCase({', '.join(self.notes)})"

    def noted(self, note: str) -> Self:
        """With one more note."""
        return replace(self, notes=(*self.notes, note))


def number_apart(names: list[str]) -> list[str]:
    """Equal names get -2, -3 ... in the order in which they come."""
    seen: dict[str, int] = {}
    apart = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        apart.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return apart
