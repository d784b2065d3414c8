"""outcome: what an attack found, without protection and with it, beside what guessing finds.

A protection either promises to stop an attack (`claimed`), and then a figure at or above the threshold is a failure,
or it does not, and then the figure is told all the same: a reader must see what is not defended.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Attack", "Measured", "Outcome", "Verdict", "attack_json"]

Verdict = Literal["defended", "FAILED", "not defended", "no harm here", "shows nothing"]


@dataclass(frozen=True)
class Measured:
    """One figure; low and high: its 95 % interval where it is an estimate, or the range over several draws of cases, whose worst it is."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Outcome:
    """One setting of an attack against one protection, in one metric: higher is worse for the patients.

    guessing: what the same attacker reaches without the study's numbers.  threshold: from here on the attack counts as
    successful.  claimed: whether this protection is meant to stop it.  how: what the protection did, in words.
    """

    setting: str
    metric: str
    unprotected: Measured
    protection: str
    protected: Measured
    guessing: float
    threshold: float
    claimed: bool
    how: str = ""

    @property
    def verdict(self) -> Verdict:
        """`shows nothing` where the attack does not succeed without protection either."""
        if self.protected.value >= self.threshold:
            return "FAILED" if self.claimed else "not defended"
        if self.unprotected.value < self.threshold:
            return "shows nothing"
        return "defended" if self.claimed else "no harm here"


@dataclass(frozen=True)
class Attack:
    """title and question: for people.  knows: what the attacker has besides what left.  source: the papers.

    remains: what stays possible whatever the outcomes say.
    """

    name: str
    title: str
    question: str
    knows: str
    source: str
    outcomes: tuple[Outcome, ...]
    remains: str

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Promises that were not kept."""
        return tuple(outcome for outcome in self.outcomes if outcome.verdict == "FAILED")


def attack_json(attack: Attack) -> dict[str, Any]:
    """As it stands in attacks.json."""
    told = asdict(attack)
    told["outcomes"] = [{**asdict(outcome), "verdict": outcome.verdict} for outcome in attack.outcomes]
    return told
