"""moments: sums, or squares about the pooled mean, of this site's training cases."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from client.egress.budget import Spending
from client.site import Site
from client.store.cohort import TrainingCases
from client.tasks.load_cohort import load_cohort
from client.tasks.open_budget import answered_privately
from common.catalogue import PAPER_SIGNATURE
from common.config.privacy import RecordLevelSettings, StatisticsSettings
from common.errors import Refused
from common.messages.moments import MomentsReply, MomentsRequest
from common.privacy.accounting import GaussianEvent
from common.privacy.noise import NoiseStream
from common.stats import moments
from common.stats.bounded_moments import bounded_squares, bounded_sums, references

__all__ = ["answer"]

Array = np.ndarray[Any, Any]


def answer(request: MomentsRequest, site: Site) -> MomentsReply:
    """Radiomics and visual features alike; only training cases count."""
    training = load_cohort(site, request.harmoniser).training
    asked = site.protocol.privacy.record_level
    if asked is not None and asked.statistics is not None:
        return _privately(request, site, training, asked, asked.statistics)
    if request.radiomics_mean is None or request.visual_mean is None:
        sums = moments.summarise_sums(training.table)
        visual = moments.summarise_sums_array(training.visual)
        return MomentsReply(site=site.settings.name, count=sums.count, radiomics=sums.total, visual=visual.total)
    squares = moments.summarise_squares(training.table, request.radiomics_mean)
    visual_squares = moments.summarise_squares_array(training.visual, request.visual_mean)
    return MomentsReply(
        site=site.settings.name,
        count=squares.count,
        radiomics=squares.total,
        visual=visual_squares.total,
    )


def _privately(
    request: MomentsRequest,
    site: Site,
    training: TrainingCases,
    asked: RecordLevelSettings,
    settings: StatisticsSettings,
) -> MomentsReply:
    """Of the signature and the visual features only, with noise; of the other features zeros."""
    table, signature = training.table, request.signature or PAPER_SIGNATURE
    if unknown := set(signature) - set(settings.radiomics):
        raise Refused(
            "reference-absent",
            site=site.settings.name,
            field="privacy.record_level.statistics.radiomics",
            problem=f"The server wants sums with noise of {len(unknown)} features that have no reference.",
            fix="Ask for features that the protocol names.",
        )
    columns = [table.names.index(name) for name in signature]
    means = request.radiomics_mean, request.visual_mean
    scale, visual_scale = references(settings, signature)

    def summed(noise: NoiseStream) -> MomentsReply:
        radiomics, visual = np.zeros(len(table.names)), np.zeros(training.visual.length)
        own = table.values[:, columns]
        if means[0] is None or means[1] is None:
            radiomics[columns] = bounded_sums(own, scale, noise.gaussian).total
            if visual_scale is not None:
                visual = bounded_sums(training.visual, visual_scale, noise.gaussian).total
        else:
            radiomics[columns] = bounded_squares(own, means[0][columns], scale, noise.gaussian).total
            if visual_scale is not None:
                visual = bounded_squares(training.visual, means[1], visual_scale, noise.gaussian).total
        return MomentsReply(site=site.settings.name, count=len(table), radiomics=radiomics, visual=visual)

    exchange = 1 if means[0] is None else 2
    spending = Spending(
        request.action,
        request.study or "",
        request.fingerprint,
        exchange,
        _asked(training, request.signature, means),
        GaussianEvent(settings.noise_multiplier),
    )
    return answered_privately(site, spending, request.harmoniser, asked, summed, cases=len(table))


def _asked(training: TrainingCases, signature: tuple[str, ...], means: tuple[Array | None, Array | None]) -> str:
    """SHA-256 over all that the sums depend on but the noise and the protocol, whose fingerprint stands beside it."""
    found = hashlib.sha256("".join(f"{word}\n" for word in (*training.keys, *signature)).encode())
    for mean in means:
        found.update(b"" if mean is None else np.ascontiguousarray(mean).tobytes())
    return found.hexdigest()
