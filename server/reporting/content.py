"""content: everything a report prints, as plain values; whoever ran the study fills it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from common.arrays import CaseFlags, CaseScores
from server.state import Exchange

__all__ = ["ArmScores", "CaseLine", "LawCheck", "StudyContent"]


@dataclass(frozen=True)
class CaseLine:
    """One case of the cohort, without a pseudonym; only a simulation has these."""

    site: str
    set: Literal["train", "test"]
    altered: bool
    age_years: float | None
    sex: str
    scanner: str
    location: str


@dataclass(frozen=True)
class ArmScores:
    """One way of training, judged on the same cases.

    margins: logit of the safety score P(not altered); low = altered.  sites: who holds each case.
    """

    name: str
    description: str
    margins: dict[str, CaseScores]
    altered: dict[str, CaseFlags]
    sites: dict[str, tuple[str, ...]]
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class LawCheck:
    """A quantity in which federated must equal pooled to `tolerance`; None where it is only shown."""

    quantity: str
    difference: float
    tolerance: float | None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the law holds here; None where nothing is required."""
        if self.tolerance is None:
            return None
        return bool(np.isfinite(self.difference) and self.difference <= self.tolerance)


@dataclass(frozen=True)
class StudyContent:
    """arms: the first is the federated one.  ranking: (feature, score) of the signature.

    sections: more of what only a simulation can tell, by name (simulation/sections.py).
    """

    title: str
    status: str
    synthetic: bool
    cases: tuple[CaseLine, ...]
    arms: tuple[ArmScores, ...]
    ranking: tuple[tuple[str, float], ...]
    ties: tuple[str, ...]
    selection_method: str
    exchanges: tuple[Exchange, ...]
    laws: tuple[LawCheck, ...]
    server_view: dict[str, Any]
    threshold: float
    bootstrap: int
    protocol: dict[str, Any]
    provenance: dict[str, str]
    preparation: dict[str, int]
    methods: str
    timings: dict[str, float]
    notes: tuple[str, ...] = ()
    parameters: dict[str, int] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
