"""server_view: what reaches the server, by the product's own code: a site's update, the door's answer, the secure sum."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from client.egress.rules import apply_rules, strictest
from client.store.cohort import TrainingCases
from client.tasks.train_round import train_and_pack
from client.training.local_task import LocalTask, Privately
from common.config.egress import EgressFloor, EgressSettings
from common.config.protocol import Protocol
from common.errors import Refused
from common.messages.base import Reply, Request
from common.messages.masked import from_total, to_blocks
from common.messages.model import ModelState
from common.messages.train_round import TrainRoundReply
from common.privacy.fixed_point import RingArray
from common.privacy.noise import NoiseStream, repeatable_key
from common.privacy.secure_sum import begin, open_sum
from common.privacy.signing import identity_of

__all__ = ["SummedSecurely", "admitted", "site_update", "sum_securely"]

Kind = TypeVar("Kind", bound=Reply)


@dataclass(frozen=True)
class SummedSecurely:
    """total: all that the server can read; masked: each site's numbers as they travelled, by site and name."""

    total: Reply
    masked: Mapping[str, Mapping[str, RingArray]]


def site_update(cases: TrainingCases, model: ModelState, protocol: Protocol, *, site: str) -> TrainRoundReply:
    """The first round's answer of a hospital with these cases.

    Noise, where the protocol wants some, follows from its seed, so that a report can be made again; no attack uses that.
    """
    torch.set_num_threads(1)  # as a hospital does
    task = LocalTask(cases.table, cases.visual, model, protocol.head, protocol.training, protocol.seed, site, 1)
    asked = protocol.privacy.record_level
    if asked is not None:
        noise = NoiseStream(repeatable_key(protocol.seed, "train_round", site, 1))
        task = replace(task, private=Privately(asked, asked.multiplier(protocol.training), noise))
    sent = train_and_pack(task)
    return TrainRoundReply(site=site, round=1, cases=sent.local.cases, loss=sent.local.loss, update=sent.packed)


def admitted(action: str, reply: Kind) -> Kind | str:
    """The reply as a hospital's door lets it out under the default rules, or the code of its refusal."""
    try:
        return apply_rules(action, reply, strictest(EgressSettings(), EgressFloor()))
    except Refused as refusal:
        return refusal.code


def sum_securely(replies: Mapping[str, Reply], request: Request) -> SummedSecurely:
    """One secure sum in which every site answers (common/privacy/secure_sum.py); errors as there."""
    session, study = os.urandom(16).hex(), request.fingerprint
    private = {name: os.urandom(32) for name in sorted(replies)}
    known = {name: identity_of(key) for name, key in private.items()}
    states = {name: begin(session, name, os.urandom) for name in private}
    adverts = {name: state.advert(study, private[name]) for name, state in states.items()}
    sealed: dict[str, dict[str, str]] = {}
    for name, state in states.items():
        states[name], sealed[name] = state.share(adverts, study=study, identities=known, draw=os.urandom)
    travelled: dict[str, dict[str, RingArray]] = {}
    shapes: dict[str, Any] = {}
    for name, state in states.items():
        shapes, blocks = to_blocks(replies[name])
        mine = {sender: shares[name] for sender, shares in sealed.items() if sender != name}
        states[name], masked = state.masked(mine, list(blocks.values()))
        travelled[name] = dict(zip(blocks, masked, strict=True))
    opened = {name: state.unmask(list(states))[1] for name, state in states.items()}
    copies = {name: [block.copy() for block in blocks.values()] for name, blocks in travelled.items()}
    total = open_sum(copies, opened, adverts, partners=list(states), session=session)
    names = list(next(iter(travelled.values())))
    reply = from_total(
        type(next(iter(replies.values()))), "all sites", shapes, dict(zip(names, total, strict=True)), request
    )
    return SummedSecurely(reply, travelled)
