"""private_statistics: signature and scale as a study with private statistics finds them, without messages: the same as the
sites' and the server's, where the noise is `repeatable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from client.store.cohort import TrainingCases
from common.config.privacy import StatisticsSettings, VotesSettings
from common.config.protocol import Protocol
from common.messages.model import ModelState
from common.networks.fused_head import initial_weights
from common.privacy.noise import NoiseStream, repeatable_key
from common.stats.bounded_moments import Noise, Reference, bounded_squares, bounded_sums, finish_bounded, references
from common.stats.moments import Moments, Rows, combine_squares, combine_sums
from common.stats.votes import choose, combine, vote
from simulation.replica import visual_moments
from simulation.statistics.estimate import federated_moments

__all__ = ["rough_reference", "with_private_statistics"]


def with_private_statistics(start: ModelState, sites: Mapping[str, TrainingCases], protocol: Protocol) -> ModelState:
    """`start` with the signature, where the protocol has it voted, and the scale of all sites' answers under noise;
    `start` itself where its statistics carry none.
    """
    settings = protocol.privacy.statistics
    if settings is None:
        return start
    if settings.votes is not None:
        signature = _voted(sites, settings.votes, tuple(settings.radiomics), protocol)
        weights = initial_weights(len(start.visual_mean), len(signature), protocol.head, seed=protocol.seed)
        start = start.model_copy(update={"signature": signature, "weights": weights})
    return _scaled(start, sites, settings, protocol.seed)


def rough_reference(
    training: TrainingCases, names: Sequence[str], *, noise_multiplier: float, votes: VotesSettings | None = None
) -> StatisticsSettings:
    """As of another cohort: every mean half a deviation too high, every deviation twice as large."""

    def rough(moments: Moments) -> list[tuple[float, float]]:
        return [(float(m + d / 2), float(2 * d)) for m, d in zip(moments.mean, moments.deviation, strict=True)]

    seen = rough(visual_moments([training.visual]))
    return StatisticsSettings(
        radiomics=dict(zip(names, rough(federated_moments([training.table.columns(tuple(names))])), strict=True)),
        visual=tuple(seen) if len(seen) > 1 else (),
        noise_multiplier=noise_multiplier,
        votes=votes,
    )


def _voted(
    sites: Mapping[str, TrainingCases], settings: VotesSettings, candidates: Sequence[str], protocol: Protocol
) -> tuple[str, ...]:
    found = []
    for name in sorted(sites):
        noise = NoiseStream(repeatable_key(protocol.seed, "votes", name, 1))
        found.append(vote(sites[name].table, candidates, settings.picks, settings.epsilon, noise.gumbel))
    return choose(next(iter(sites.values())).table.names, combine(found), protocol.selection.k).names


def _scaled(
    start: ModelState, sites: Mapping[str, TrainingCases], settings: StatisticsSettings, seed: int
) -> ModelState:
    """The same signature and weights, standardised by sums with noise of all sites."""
    noises = {
        (name, exchange): NoiseStream(repeatable_key(seed, "moments", name, exchange))
        for name in sites
        for exchange in (1, 2)
    }

    def found(rows: Callable[[TrainingCases], Rows], reference: Reference) -> Moments:
        def held(exchange: int) -> Sequence[tuple[Rows, Noise]]:
            return [(rows(sites[name]), noises[name, exchange].gaussian) for name in sorted(sites)]

        sums = combine_sums([bounded_sums(values, reference, draw) for values, draw in held(1)])
        mean = sums.total / sums.count
        squares = combine_squares([bounded_squares(values, mean, reference, draw) for values, draw in held(2)])
        return finish_bounded(sums, squares, reference)

    radiomics, visual = references(settings, start.signature)
    own = found(lambda cases: cases.table.columns(start.signature).values, radiomics)
    changed = {"radiomics_mean": own.mean, "radiomics_deviation": own.deviation}
    if visual is not None:
        seen = found(lambda cases: cases.visual, visual)
        changed["visual_mean"] = seen.mean.astype(np.float32)
        changed["visual_deviation"] = seen.deviation.astype(np.float32)
    return start.model_copy(update=changed)
