"""train: rounds of local training, merged by the protocol's strategy."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from common.errors import ConfigError
from common.messages.base import Reply, Request
from common.messages.broadcast import sent_change
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.update_gate import check_cases, check_changes, check_losses, check_round, check_variance
from common.messages.visual_moments import UNKNOWN, moments_digest, without_moments
from common.messages.weight_update import open_update
from common.networks.first_weights import first_weights
from common.privacy.noise import KEY_BYTES, NoiseStream
from common.seeds import stream
from common.stats.class_weights import balanced_weights
from server.phases.base import Phase
from server.state import ALL_SITES, StudyState
from server.strategy.site_level import private_mean
from server.strategy.strategies import STRATEGIES
from server.strategy.update import PackedChanges, SiteUpdate, Weights
from server.strategy.weighting import site_weights

__all__ = ["Train"]


class Train(Phase):
    """One exchange per round; a site lost in one round is asked again in the next."""

    name: ClassVar[str] = "train"
    fixed_roster: ClassVar[bool] = False

    def request(self, state: StudyState) -> TrainRoundRequest | None:
        """The next round with the present model, until all are done or the validation loss rises."""
        training = state.protocol.training
        if state.stopped_early or state.rounds_done >= training.rounds:
            return None
        first, round_number = _first_weights(state), state.rounds_done + 1
        state = state.evolve(weights=dict(state.weights or first))
        change = sent_change(state.weights, first, training, seed=state.protocol.seed, round_number=round_number)
        model = state.model()
        moments = moments_digest(model)
        if _know_the_moments(state).issuperset(self.asked(state)):
            model = without_moments(model)
        return TrainRoundRequest(
            fingerprint=state.protocol.fingerprint(),
            study=state.study,
            round=round_number,
            model=model if change is None else model.model_copy(update={"weights": {}}),
            moments=moments,
            change=change,
            class_weights=_class_weights(state) if training.class_weights else (1.0, 1.0),
            control=state.strategy_memory if training.strategy == "scaffold" else {},
        )

    def asked(self, state: StudyState) -> tuple[str, ...]:
        """`site_fraction` of the sites, drawn by the stream (seed, "sites", round)."""
        sites, training = state.taking_part, state.protocol.training
        wanted = max(math.ceil(training.site_fraction * len(sites) - 1e-9), state.protocol.federation.min_sites)
        if wanted >= len(sites):
            return sites
        rng = stream(state.protocol.seed, "sites", state.rounds_done + 1)
        return tuple(sorted(rng.choice(sites, wanted, replace=False).tolist()))

    def admit(self, state: StudyState, request: Request, reply: Reply) -> Reply:
        """Check an update; WireError with the codes of common/messages/update_gate.py."""
        if not isinstance(reply, TrainRoundReply) or not isinstance(request, TrainRoundRequest):
            return reply
        check_round(reply.round, request.round)
        check_variance(reply.gradient_variance, state.protocol.training)
        check_cases(reply.cases, _cases(state)[reply.site])
        check_losses(reply, _cases(state)[reply.site])
        check_changes(open_update(reply.update, state.weights or _first_weights(state)), state.protocol.training)
        return reply

    def conclude(self, state: StudyState, replies: Mapping[str, Reply]) -> StudyState:
        """Merge the changes; keep the best weights so far where the protocol stops early."""
        training, before = state.protocol.training, state.weights or _first_weights(state)
        updates = [reply for reply in replies.values() if isinstance(reply, TrainRoundReply)]
        merged = _site_updates(state, updates, before)
        if state.protocol.privacy.site_level is not None:
            # The one step of a phase that is not repeatable: a seed that the sites know would hide nothing from them.
            noise = NoiseStream(secrets.token_bytes(KEY_BYTES))
            merged = [private_mean(merged, state.protocol.privacy.site_level, noise)]
        after, memory = STRATEGIES[training.strategy](
            before, merged, state.strategy_memory, training, state.rounds_done + 1
        )
        state = state.evolve(weights=dict(after), strategy_memory=dict(memory), rounds_done=state.rounds_done + 1)
        return _stop_early(state, before) if training.patience else state


def _site_updates(state: StudyState, replies: list[TrainRoundReply], before: Weights) -> list[SiteUpdate]:
    training, everyone = state.protocol.training, {s: n for s, n in _cases(state).items() if s != ALL_SITES}
    shares = site_weights(everyone, {}, training) if training.keeps_variate else {}
    total = sum(shares.values()) or 1.0
    weights = site_weights(
        {reply.site: reply.cases for reply in replies}, {r.site: r.gradient_variance or 0.0 for r in replies}, training
    )
    return [
        SiteUpdate(
            site=reply.site,
            cases=reply.cases,
            changes=PackedChanges(reply.update, before),
            weight=weights[reply.site],
            share=shares.get(reply.site, 0.0) / total,
        )
        for reply in replies
    ]


def _cases(state: StudyState) -> dict[str, int]:
    """Training cases by site, and of all."""
    cases = {site: sum(state.qualified[site].training_cases) for site in state.active}
    return {**cases, ALL_SITES: sum(cases.values())}


def _stop_early(state: StudyState, before: Weights) -> StudyState:
    """Compare the pooled validation losses of all rounds' incoming models; the last is that of `before`."""
    losses = [e.validation_loss for e in state.exchanges if e.validation_loss is not None]
    if not losses:
        return state
    best = int(np.argmin(losses))
    if best == len(losses) - 1:
        return state.evolve(best_weights=dict(before))
    if len(losses) - 1 - best >= state.protocol.training.patience:
        return state.evolve(weights=state.best_weights, best_weights={}, stopped_early=True)
    return state


def _know_the_moments(state: StudyState) -> set[str]:
    """Sites that have trained in this study and have not said since that they lost what standardises the features."""
    known: set[str] = set()
    for exchange in state.exchanges:
        if exchange.action == "train_round":
            known |= {site for site, status in exchange.roster.items() if status == "contributed"}
            known -= {site for site, code in exchange.codes.items() if code == UNKNOWN}
    return known


def _class_weights(state: StudyState) -> tuple[float, float]:
    counts = {site: state.qualified[site].training_cases for site in state.active}
    silent = sorted(site for site, cases in counts.items() if len(cases) == 1)
    if silent:
        raise ConfigError(
            "class-weights-without-counts",
            field="training.class_weights",
            problem=f"{', '.join(silent)} may not tell how many cases of each class there are.",
            fix="Switch training.class_weights off in the protocol, or do without these sites.",
        )
    altered, others = np.sum(list(counts.values()), axis=0).tolist()
    return balanced_weights(altered, others)


def _first_weights(state: StudyState) -> Weights:
    protocol, selection = state.protocol, state.selection
    if selection is None:
        raise ValueError("training begins after selection")
    return first_weights(protocol, len(selection.signature))
