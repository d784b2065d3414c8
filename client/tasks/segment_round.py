"""segment_round: train the segmentation network on this site's training cases; the change leaves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from client.device import choose_device
from client.site import Site
from client.tasks.segment_cases import training_volumes
from client.training.patches import TrainingVolumes
from client.training.segment_round import SegmentTask, train_segment_round
from common.messages.segment_round import SegmentRoundReply, SegmentRoundRequest
from common.messages.update_gate import check_changes
from common.messages.weight_update import pack
from common.seeds import stream

Arrays = Mapping[str, np.ndarray[Any, Any]]

__all__ = ["answer", "segment_task", "use_cores"]


def answer(request: SegmentRoundRequest, site: Site) -> SegmentRoundReply:
    """One round; nothing but the cases' volumes stays here between messages."""
    use_cores(site)
    training, name = site.protocol.segmentation.training, site.settings.name
    update = train_segment_round(segment_task(site, training_volumes(site), request.weights, request.round))
    check_changes(update.changes, training.merging)
    rounding = stream(site.protocol.seed, name, "segment-rounding", request.round)
    packed = pack(update.changes, training.wire_encoding, rounding)
    return SegmentRoundReply(site=name, round=request.round, cases=update.cases, loss=update.loss, update=packed)


def segment_task(site: Site, cases: TrainingVolumes, weights: Arrays, round_number: int) -> SegmentTask:
    """A round of this site, as its protocol says."""
    settings = site.protocol.segmentation
    return SegmentTask(
        cases,
        weights,
        settings.network,
        settings.training,
        site.protocol.seed,
        site.settings.name,
        round_number,
        choose_device(site.settings.device),
    )


def use_cores(site: Site) -> None:
    """All that the site gives; another number of cores may change the last bits of a convolution."""
    torch.set_num_threads(site.settings.workers or os.cpu_count() or 1)
