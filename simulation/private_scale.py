"""private_scale: the scale of the features as a study with private statistics finds it, without messages: the same numbers
as the sites' and the server's, where the noise is `repeatable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from client.store.cohort import TrainingCases
from common.config.privacy import StatisticsSettings
from common.messages.model import ModelState
from common.privacy.noise import NoiseStream, repeatable_key
from common.stats.bounded_moments import Noise, Reference, bounded_squares, bounded_sums, finish_bounded, references
from common.stats.moments import Moments, Rows, combine_squares, combine_sums

__all__ = ["rough_reference", "with_private_scale"]


def with_private_scale(
    start: ModelState, sites: Mapping[str, TrainingCases], settings: StatisticsSettings, *, seed: int
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


def rough_reference(start: ModelState, *, noise_multiplier: float) -> StatisticsSettings:
    """As of another cohort: every mean half a deviation too high, every deviation twice as large."""

    def rough(mean: np.ndarray, deviation: np.ndarray) -> list[tuple[float, float]]:
        return [(float(m + d / 2), float(2 * d)) for m, d in zip(mean, deviation, strict=True)]

    seen = rough(start.visual_mean, start.visual_deviation)
    return StatisticsSettings(
        radiomics=dict(zip(start.signature, rough(start.radiomics_mean, start.radiomics_deviation), strict=True)),
        visual=tuple(seen) if len(seen) > 1 else (),
        noise_multiplier=noise_multiplier,
    )
