"""segment_evaluate: segment cases that have a true mask, and measure Dice and HD95; a study gets their means."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from client.device import choose_device
from client.disk import write_whole
from client.review.compare import compare
from client.segment.segment import segment_whole_tumour
from client.segment.weights import network_of
from client.site import Site
from client.store.prepared_store import PreparedStore
from client.tasks.segment_cases import SegmentCase, network_images, prepared_case, segment_cases, true_mask
from client.tasks.segment_round import use_cores
from common.errors import InputError
from common.messages.segment_evaluate import SegmentEvaluateReply, SegmentEvaluateRequest

__all__ = ["CaseScore", "answer", "score_segmentation", "scores_file", "summary"]


@dataclass(frozen=True)
class CaseScore:
    """hd95_mm, uncertainty: NaN where the network found nothing; Dice is 0 then.  volume_ml: found; true_ml: of the true
    mask.
    """

    pseudonym: str
    test: bool
    dice: float
    hd95_mm: float
    volume_ml: float
    true_ml: float
    uncertainty: float


def answer(request: SegmentEvaluateRequest, site: Site) -> SegmentEvaluateReply:
    """Means of the site's test cases leave; each case's values stay in its cache."""
    use_cores(site)
    store = PreparedStore(site.settings.cache)
    cases = [c for c in segment_cases(site) if c.labelled and c.test and store.has(c.images)]
    network = network_of(request.weights, site.protocol.segmentation.network, name=request.study)
    scores = score_segmentation(site, cases, network)
    _write(scores_file(site, request.study), scores)
    return summary(scores, site=site.settings.name)


def scores_file(site: Site, study: str) -> Path:
    """Where the hospital finds the Dice of its own cases."""
    return site.settings.cache / "scores" / f"{site.settings.name}-{study}-segmentation.csv"


def score_segmentation(
    site: Site,
    cases: Sequence[SegmentCase],
    network: torch.nn.Module,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[CaseScore]:
    """On the analysis grid, through everything a new case goes through (windows, mirror images, tidying)."""
    device = choose_device(site.settings.device)
    network = network.to(device)
    scores = []
    for number, case in enumerate(cases):
        progress(number, len(cases))
        scores.append(_score(case, site, network, device))
    progress(len(cases), len(cases))
    return scores


def summary(scores: Sequence[CaseScore], *, site: str) -> SegmentEvaluateReply:
    """Means over the cases, as they leave the site."""
    dices = [score.dice for score in scores]
    distances = [score.hd95_mm for score in scores if not math.isnan(score.hd95_mm)]
    return SegmentEvaluateReply(
        site=site,
        cases=len(dices),
        dice_mean=float(np.mean(dices)) if dices else None,
        dice_sd=float(np.std(dices)) if dices else None,
        hd95_cases=len(distances),
        hd95_mean_mm=float(np.mean(distances)) if distances else None,
    )


def _score(case: SegmentCase, site: Site, network: torch.nn.Module, device: str) -> CaseScore:
    images = prepared_case(case, site)
    truth = sitk.Cast(true_mask(case, images, site) > 0, sitk.sitkUInt8)
    try:
        found = segment_whole_tumour(
            *network_images(images), images.brain_mask, site.protocol.segmentation, network=network, device=device
        )
        mask, uncertainty = found.mask, found.uncertainty
    except InputError as error:
        if error.code != "no-tumour-found":
            raise
        mask, uncertainty = truth * 0, math.nan
    compared = compare(mask, truth)
    found_ml = compared.volume_ml - compared.volume_change_ml
    return CaseScore(
        case.row.pseudonym, case.test, compared.dice, compared.hd95_mm, found_ml, compared.volume_ml, uncertainty
    )


def _write(path: Path, scores: Sequence[CaseScore]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("pseudonym", "dice", "hd95_mm", "volume_ml", "true_ml", "uncertainty"))
    writer.writerows((s.pseudonym, s.dice, s.hd95_mm, s.volume_ml, s.true_ml, s.uncertainty) for s in scores)
    write_whole(path, text.getvalue().encode())
