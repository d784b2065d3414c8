"""privacy: what a study's differential privacy promises, in figures, and what of the training cases it does not cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from common.config.protocol import Protocol
from common.privacy.accounting import Event, GaussianEvent, epsilon_of
from server.strategy.site_level import site_level_event

__all__ = ["privacy_view", "told_without_noise"]


def privacy_view(protocol: Protocol, rounds: int, *, from_release: bool) -> dict[str, Any]:
    """Empty without differential privacy; epsilon null where there is no bound.

    Of this study alone: what others have spent on the same cases stands in each site's ledger.
    """
    privacy, found = protocol.privacy, {}
    if privacy.record_level is not None:
        asked = privacy.record_level
        statistics = None if from_release else asked.statistics
        beside = [] if statistics is None else statistics.events()
        found["record_level"] = {
            "max_grad_norm": asked.max_grad_norm,
            **_told(asked.event(protocol.training, rounds), asked.delta, rounds, beside),
            "statistics_noise_multiplier": None if statistics is None else statistics.noise_multiplier,
            "votes": None if statistics is None or statistics.votes is None else statistics.votes.model_dump(),
            "told_without_noise": told_without_noise(protocol, from_release=from_release),
        }
    if privacy.site_level is not None:
        found["site_level"] = {
            "largest_update": privacy.site_level.largest_update,
            **_told(site_level_event(privacy.site_level, rounds), privacy.site_level.delta, rounds),
        }
    return found


def told_without_noise(protocol: Protocol, *, from_release: bool) -> list[str]:
    """What the server learns of training cases outside the promise, in the words of the report."""
    told = ["how many training cases each site has"]
    record_level = protocol.privacy.record_level
    if not from_release:
        if record_level is None or record_level.statistics is None:
            told.append(
                "mean and standard deviation of every feature over all training cases, which also scale the inputs"
            )
        if protocol.selection.method not in {"fixed_signature", "votes"}:
            told.append("the sums over features, bins and labels from which the signature was selected")
        if protocol.selection.smallest_icc is not None:
            told.append("sums of squares of repeated measurements, for the stability of features")
    return told


def _told(event: GaussianEvent, delta: float, rounds: int, beside: Sequence[Event] = ()) -> dict[str, Any]:
    """beside: what else is in epsilon."""
    epsilon = {name: epsilon_of([event, *beside], delta, name) for name in ("rdp", "prv")} if rounds else {}
    return {
        "rounds": rounds,
        "noise_multiplier": event.noise_multiplier,
        "sampling_rate": event.sampling_rate,
        "delta": delta,
        "epsilon": {name: value if math.isfinite(value) else None for name, value in epsilon.items()},
    }
