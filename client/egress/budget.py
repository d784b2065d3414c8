"""budget: what differential privacy has been spent on this hospital's cases, in a chained log (client/chained_log.py).

    spent   on the disk before the noise is drawn: study, round, mechanism, and epsilon of everything so far
    reply   on the disk before the reply leaves: its digest

Noise follows from the site's secret and the line's `stream`, which names the request and the cases.  The same request
again, as after a crash, draws the same noise: it gives the same reply, which tells nothing new, and is not spent
twice.  Whatever differs, in the request, in a case, or in the reply that other software makes of them, is another
stream and is spent again.  Without a budget left nothing is computed: Refused `privacy-budget-spent`.

Not defended: a hospital that deletes log and .head file together begins with a full budget.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from client.chained_log import ChainedLog, Line, LogWords
from common.errors import Refused
from common.privacy.accounting import Accountant, ChoiceEvent, Event, GaussianEvent, epsilon_of, within
from common.privacy.hash_chain import ChainFault

__all__ = ["Booking", "Budget", "BudgetLimit", "BudgetReport", "Spending"]

WORDS = LogWords(
    code="privacy-ledger",
    field="budget",
    name="The site's privacy ledger",
    without_it="nothing may be spent",
    then="the study then goes on",
    mend="Run `fedmidline-site budget`; find out who changed it, and restore log and .head file from a backup together.",
)


@dataclass(frozen=True)
class BudgetLimit:
    """The strictest of site and protocol."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Spending:
    """What is to be answered, and at what cost; asked: all that the reply depends on, request and cases."""

    action: str
    study: str
    protocol: str
    round: int
    asked: str
    event: Event


@dataclass(frozen=True)
class Booking:
    """stream: names the noise; attempt: from 1, above it where the same was answered otherwise before."""

    spending: Spending
    attempt: int

    @property
    def stream(self) -> str:
        """Hexadecimal; no other request or attempt has it."""
        parts = {key: value for key, value in vars(self.spending).items() if key != "event"}
        mechanism = _mechanism(self.spending.event)
        return hashlib.sha256(json.dumps([parts, mechanism, self.attempt], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class BudgetReport:
    """lines: up to the first fault; epsilon: by either accountant, at the limit's delta."""

    limit: BudgetLimit
    lines: tuple[Line, ...]
    fault: ChainFault | None
    epsilon: Mapping[Accountant, float]


class Budget:
    """One site's ledger; path: its file."""

    def __init__(self, path: Path, clock: Callable[[], datetime], limit: BudgetLimit) -> None:
        self._log = ChainedLog(path, clock, WORDS)
        self._limit = limit

    def book(self, spending: Spending) -> Booking:
        """Spend, or find that just this was spent before; when it returns the line is on the disk.

        Refused `privacy-budget-spent`, `privacy-ledger-unwritable`, `privacy-ledger-broken`.
        """
        return self._book(Booking(spending, attempt=1), again=False)

    def settle(self, booking: Booking, digest: str) -> Booking | None:
        """Note the reply's digest before it leaves; None: it may.

        Where another reply was made of the same noise, the two together would tell more than was paid for: the
        returned booking is a new one, already spent, and the answer must be computed again under it.
        """
        with self._log.writing() as writer:
            told = _replies(writer.chain.lines).get(booking.stream)
            if told is None:
                writer.append({"event": "reply", "stream": booking.stream, "digest": digest})
        return None if told in (None, digest) else self._book(replace(booking, attempt=booking.attempt + 1), again=True)

    def report(self) -> BudgetReport:
        """Everything; reads only."""
        chain = self._log.read()
        events, delta = _events(chain.lines), self._limit.delta
        epsilon: dict[Accountant, float] = {"rdp": epsilon_of(events, delta, "rdp"), "prv": epsilon_of(events, delta)}
        return BudgetReport(self._limit, chain.lines, chain.fault, epsilon)

    def _book(self, booking: Booking, *, again: bool) -> Booking:
        """The first attempt, or with `again` the first that is not known yet."""
        limit, event = self._limit, booking.spending.event
        with self._log.writing() as writer:
            known = {str(line["stream"]) for line in writer.chain.lines if line["event"] == "spent"}
            while again and booking.stream in known:
                booking = replace(booking, attempt=booking.attempt + 1)
            if booking.stream in known:
                return booking
            before = _events(writer.chain.lines)
            fits, epsilon = within([*before, event], limit.delta, limit.epsilon)
            if not fits:
                raise _spent(booking, epsilon_of(before, limit.delta, "rdp"), limit)
            told = {key: value for key, value in vars(booking.spending).items() if key not in {"event", "asked"}}
            writer.append(
                {
                    "event": "spent",
                    **told,
                    "stream": booking.stream,
                    "attempt": booking.attempt,
                    "mechanism": _mechanism(event),
                    "epsilon": epsilon,
                    "delta": limit.delta,
                    "limit": limit.epsilon,
                }
            )
        return booking


def _mechanism(event: Event) -> dict[str, Any]:
    if isinstance(event, ChoiceEvent):
        return {"epsilon": event.epsilon, "picks": event.picks}
    return {"noise_multiplier": event.noise_multiplier, "sampling_rate": event.sampling_rate, "steps": event.steps}


def _events(lines: Iterable[Line]) -> list[Event]:
    told = [line["mechanism"] for line in lines if line["event"] == "spent"]
    return [ChoiceEvent(**mechanism) if "picks" in mechanism else GaussianEvent(**mechanism) for mechanism in told]


def _replies(lines: Iterable[Line]) -> dict[str, str]:
    return {str(line["stream"]): str(line["digest"]) for line in lines if line["event"] == "reply"}


def _spent(booking: Booking, before: float, limit: BudgetLimit) -> Refused:
    """Epsilon follows from the protocol's settings and the rounds asked for, so it may cross the wire."""
    return Refused(
        "privacy-budget-spent",
        field=booking.spending.action,
        problem=f"Of epsilon {limit.epsilon:g} (delta {limit.delta:g}), {before:.2f} is spent, and the answer would cost more "
        "than is left.",
        fix="Stop here, add noise (privacy.record_level in the protocol), or ask the site for more: budget.epsilon in site.yaml.",
    )
