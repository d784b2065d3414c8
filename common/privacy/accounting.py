"""accounting: what happened (events) and what it costs (epsilon), by Opacus' accountants.

    rdp   Renyi differential privacy (Mironov 2017, arXiv 1702.07476; Mironov et al. 2019, arXiv 1908.10530): quick,
          6 to 30 % too high
    prv   privacy random variables (Gopi et al. 2021, arXiv 2106.02848): at most 0.02 too high, and slow where much
          is spent

Both are upper bounds.  Neighbours are two data sets of which one has a case more.  Where something was chosen
(ChoiceEvent) rdp answers for both: each choice is of bounded range, hence epsilon^2 / 8 of zero-concentrated privacy
(Cesar and Rogers 2021, arXiv 2004.07223), and Opacus has no privacy random variable of it.  The quick Gaussian
approximation (GDP) is too low for small sampling rates and not used.  tests/unit/test_accounting.py and
tests/laws/test_votes.py compare with dp-accounting.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

__all__ = [
    "Accountant",
    "ChoiceEvent",
    "Event",
    "GaussianEvent",
    "calibrate",
    "calibrate_choice",
    "epsilon_of",
    "within",
]

Accountant = Literal["rdp", "prv"]

ORDERS = (1.25, 1.5, 1.75, *range(2, 65), 80, 96, 128, 192, 256, 512)
HARD_TO_CONVOLVE = 50.0
"""Beyond this epsilon the grid of the privacy random variables takes minutes; rdp answers instead."""


@dataclass(frozen=True)
class GaussianEvent:
    """`steps` Gaussian mechanisms, each on a Poisson sample; noise_multiplier: deviation over sensitivity."""

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1


@dataclass(frozen=True)
class ChoiceEvent:
    """`picks` exponential mechanisms one after another, each of `epsilon` (common/stats/votes.py)."""

    epsilon: float
    picks: int


Event = GaussianEvent | ChoiceEvent


def epsilon_of(events: Sequence[Event], delta: float, accountant: Accountant = "prv") -> float:
    """Of all of them together; infinite where one of them adds no noise, 0 where nothing happened."""
    return _epsilon(tuple(events), delta, accountant)


def within(events: Sequence[Event], delta: float, limit: float) -> tuple[bool, float]:
    """Whether they spend no more than `limit`, and how much; the slow accountant only where the quick one says no."""
    quick = epsilon_of(events, delta, "rdp")
    if quick <= limit:
        return True, quick
    # Hopeless cases are not worth the minutes: rdp has never been found to be more than a third too high.
    spent = quick if quick > 2 * limit else epsilon_of(events, delta, "prv")
    return spent <= limit, spent


@lru_cache(maxsize=64)
def calibrate(target: float, delta: float, sampling_rate: float, steps: int, beside: tuple[Event, ...] = ()) -> float:
    """The smallest noise multiplier (to 0.1 %) whose `steps` spend at most `target` by rdp, with what happens beside them;
    ValueError where that alone spends it.
    """
    if epsilon_of(beside, delta, "rdp") >= target:
        raise ValueError("nothing of the target is left")

    def enough(noise: float) -> bool:
        return epsilon_of([*beside, GaussianEvent(noise, sampling_rate, steps)], delta, "rdp") <= target

    low, high = 0.05, 0.1
    while not enough(high):
        low, high = high, 2 * high
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def calibrate_choice(target: float, delta: float, picks: int) -> float:
    """The largest epsilon (to 0.1 %) of each of so many picks that together spend at most `target` by rdp."""
    low, high = 0.0, target
    while high - low > 0.001 * high:
        middle = (low + high) / 2
        fits = epsilon_of([ChoiceEvent(middle, picks)], delta, "rdp") <= target
        low, high = (middle, high) if fits else (low, middle)
    return low


@lru_cache(maxsize=256)
def _epsilon(events: tuple[Event, ...], delta: float, accountant: Accountant) -> float:
    if not events:
        return 0.0
    gaussian = [event for event in events if isinstance(event, GaussianEvent)]
    if any(event.noise_multiplier == 0 for event in gaussian):
        return math.inf
    total = sum(_renyi(event) for event in events)
    # Its own get_privacy_spent warns about the ends of the orders; any order is an upper bound, so the warning is moot.
    bounds = total - (np.log(delta) + np.log(ORDERS)) / (np.array(ORDERS) - 1) + np.log1p(-1 / np.array(ORDERS))
    quick = max(0.0, float(np.nanmin(bounds)))
    if accountant == "rdp" or quick > HARD_TO_CONVOLVE or len(gaussian) < len(events):
        return quick
    from opacus.accountants import PRVAccountant

    slow = PRVAccountant()
    slow.history = [(e.noise_multiplier, e.sampling_rate, e.steps) for e in _joined(gaussian)]
    # log(1 - q) of a full sample; and the width of its grid is found by rdp, whose orders may end too early: a wider grid.
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the")
        return min(quick, float(slow.get_epsilon(delta)))


def _renyi(event: Event) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """At each of ORDERS."""
    if isinstance(event, ChoiceEvent):
        return event.picks * event.epsilon**2 / 8 * np.array(ORDERS)
    if event.sampling_rate == 1:  # Mironov 2017, corollary 3; no need of Opacus
        return event.steps * np.array(ORDERS) / (2 * event.noise_multiplier**2)
    from opacus.accountants.analysis import rdp  # seconds, and torch; whoever only reads settings must not wait

    noise, rate = event.noise_multiplier, event.sampling_rate
    return np.array(rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=event.steps, orders=ORDERS))


def _joined(events: Sequence[GaussianEvent]) -> list[GaussianEvent]:
    """Equal mechanisms counted together: the accountant convolves once for each kind."""
    steps: dict[tuple[float, float], int] = {}
    for event in events:
        kind = (event.noise_multiplier, event.sampling_rate)
        steps[kind] = steps.get(kind, 0) + event.steps
    return [GaussianEvent(noise, rate, count) for (noise, rate), count in steps.items()]
