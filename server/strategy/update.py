"""update: what a strategy gets and gives.

A strategy is one pure function: the weights before, the sites' updates in the order of their names, and the memory
that it gave back last time, which the server checkpoints for it.  An empty memory means the first round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from common.config.training import TrainingSettings
from common.messages.weight_update import WeightUpdate, unpack_one

__all__ = ["PackedChanges", "SiteUpdate", "Strategy", "Weights", "shares"]

Weights = Mapping[str, np.ndarray[Any, Any]]


class PackedChanges(Weights):
    """Changes that are decoded, one array at a time, whenever they are asked for; a server of many sites holds them
    as they came.
    """

    def __init__(self, update: WeightUpdate, before: Weights) -> None:
        self._update, self._before = update, before

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return unpack_one(self._update, name, self._before[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._before)

    def __len__(self) -> int:
        return len(self._before)


@dataclass(frozen=True)
class SiteUpdate:
    """One site's change, checked; cases: it trained on.

    weight: of the site, by the protocol's weighting; share: of it among all sites of the study, asked or not, for the
    strategies that keep a variate (0 elsewhere).
    """

    site: str
    cases: int
    changes: Weights
    weight: float
    share: float


class Strategy(Protocol):
    """(before, updates, memory, settings, round) -> (weights after, memory)."""

    def __call__(
        self,
        before: Weights,
        updates: Sequence[SiteUpdate],
        memory: Weights,
        training: TrainingSettings,
        round_number: int,
    ) -> tuple[Weights, Weights]:
        """Merge one round."""
        ...


def shares(updates: Sequence[SiteUpdate]) -> list[float]:
    """Of each site that answered, adding up to one."""
    total = sum(update.weight for update in updates)
    return [update.weight / total for update in updates]
