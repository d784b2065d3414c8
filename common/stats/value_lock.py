"""value_lock: do two computers compute the same features?  Compared on the reference phantom, never on a patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["RELATIVE_TOLERANCE", "Difference", "compare_values"]

RELATIVE_TOLERANCE = 1e-6
"""Far above rounding (1e-12 between processors), far below what another version or setting changes."""
ABSOLUTE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Difference:
    """feature: the one that differs most; relative: by how much; features: how many differ."""

    feature: str
    relative: float
    features: int

    def __str__(self) -> str:
        return f"{self.feature} by {self.relative:.1e}; {self.features} feature(s) differ"


def compare_values(expected: Mapping[str, float], found: Mapping[str, float]) -> Difference | None:
    """None where every expected feature is there with its value; a feature that is missing differs by infinity."""
    gaps: dict[str, float] = {}
    for name, value in expected.items():
        gap = abs(found[name] - value) if name in found else float("inf")
        if not gap <= RELATIVE_TOLERANCE * abs(value) + ABSOLUTE_TOLERANCE:  # NaN differs, too
            gaps[name] = gap / max(abs(value), ABSOLUTE_TOLERANCE)
    if not gaps:
        return None
    worst = max(gaps, key=lambda name: (gaps[name], name))
    return Difference(worst, gaps[worst], len(gaps))
