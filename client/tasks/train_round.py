"""train_round: train the fused classifier on this site's training cases; the change leaves."""

from __future__ import annotations

import torch

from client.device import choose_device
from client.site import Site
from client.tasks.load_cohort import load_cohort
from client.training.fused import train_locally
from common.messages.train_round import TrainRoundReply, TrainRoundRequest

__all__ = ["answer"]


def answer(request: TrainRoundRequest, site: Site) -> TrainRoundReply:
    """One round; nothing stays here between messages."""
    # One thread: the same bits on a laptop, on Ray and in a hospital, whatever the number of cores.
    torch.set_num_threads(1)
    training = load_cohort(site, request.model.harmoniser).training
    update = train_locally(
        training.table,
        training.visual,
        request.model,
        head=site.protocol.head,
        training=site.protocol.training,
        seed=site.protocol.seed,
        site=site.settings.name,
        round_number=request.round,
        device=choose_device(site.settings.device),
    )
    return TrainRoundReply(site=site.settings.name, cases=update.cases, loss=update.loss, deltas=update.deltas)
