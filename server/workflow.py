"""workflow: the driver: request -> send -> quorum -> conclude -> checkpoint.

The only place that waits and the only one that writes.  It speaks to a Flower Grid, whichever carrier is
behind it: in process, Ray, or a SuperLink with hospitals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from common.config.study import Trains
from common.errors import QuorumLost, StudyError
from common.messages.advertise_keys import AdvertiseKeysReply
from common.messages.anova import AnovaReply
from common.messages.base import Refusal, Reply, Request
from common.messages.combat import CombatReply
from common.messages.contingency import ContingencyReply
from common.messages.covariance import CovarianceReply
from common.messages.evaluate import EvaluateReply
from common.messages.masked import MaskedReply
from common.messages.moments import MomentsReply
from common.messages.qualify import QualifyReply
from common.messages.quantiles import QuantilesReply
from common.messages.records import from_records, is_refusal, size_in_bytes, to_records
from common.messages.repeats import RepeatsReply
from common.messages.score_cells import ScoreCellsReply
from common.messages.segment_evaluate import SegmentEvaluateReply
from common.messages.segment_round import SegmentRoundReply
from common.messages.share_keys import ShareKeysReply
from common.messages.train_round import TrainRoundReply
from common.messages.unmask import UnmaskReply
from common.messages.votes import VotesReply
from server.checkpoint import save_checkpoint
from server.fold import FoldedReplies
from server.phases.base import Phase
from server.phases.baseline import Baseline
from server.phases.evaluate import Evaluate
from server.phases.harmonise import Harmonise
from server.phases.qualify import Qualify
from server.phases.segment import Segment
from server.phases.segment_evaluate import SegmentEvaluate
from server.phases.select import Select
from server.phases.stability import Stability
from server.phases.train import Train
from server.phases.vote import Vote
from server.secure_exchange import secure_exchange
from server.state import ALL_SITES, Exchange, SiteStatus, StudyState

__all__ = ["PHASES", "run_study", "wait_for_sites"]

PHASES: dict[Trains, tuple[Phase, ...]] = {
    "classifier": (Qualify(), Vote(), Harmonise(), Stability(), Select(), Baseline(), Train(), Evaluate()),
    "segmentation": (Qualify(), Segment(), SegmentEvaluate()),
}

ANSWERS: dict[str, tuple[str, type[Reply]]] = {
    "qualify": ("query", QualifyReply),
    "votes": ("query", VotesReply),
    "combat": ("query", CombatReply),
    "moments": ("query", MomentsReply),
    "quantiles": ("query", QuantilesReply),
    "contingency": ("query", ContingencyReply),
    "covariance": ("query", CovarianceReply),
    "anova": ("query", AnovaReply),
    "repeats": ("query", RepeatsReply),
    "train_round": ("train", TrainRoundReply),
    "evaluate": ("evaluate", EvaluateReply),
    "score_cells": ("query", ScoreCellsReply),
    "segment_round": ("train", SegmentRoundReply),
    "segment_evaluate": ("evaluate", SegmentEvaluateReply),
    "advertise_keys": ("query", AdvertiseKeysReply),
    "share_keys": ("query", ShareKeysReply),
    "unmask": ("query", UnmaskReply),
}
"""action -> Flower's message category, and the reply's type."""


STEPS = (AdvertiseKeysReply, ShareKeysReply, MaskedReply, UnmaskReply)
"""Of a secure sum, which checks them itself; the phase admits its total."""


@dataclass
class _Answers:
    """replies: once all are in, folded ones under the first site's name; sites: who contributed."""

    folded: FoldedReplies
    replies: dict[str, Reply] = field(default_factory=dict)
    sites: tuple[str, ...] = ()
    roster: dict[str, SiteStatus] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    bytes_down: dict[str, int] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)

    def refuse(self, site: str, code: str) -> None:
        """Name a site that answered, but not with a reply."""
        self.folded.refuse(site)
        self.roster[site] = "refused"
        self.codes[site] = code


def wait_for_sites(grid: Grid, wanted: int, timeout_s: float) -> None:
    """Wait until as many nodes as sites are online, but never for ever; fewer are named later."""
    end = time.monotonic() + timeout_s
    while len(list(grid.get_node_ids())) < wanted and time.monotonic() < end:
        time.sleep(0.5)


def run_study(
    grid: Grid,
    state: StudyState,
    *,
    checkpoint: Path,
    notify: Callable[[Exchange], None] = lambda _: None,
) -> StudyState:
    """Run all phases that `state` has not finished; every exchange ends in a checkpoint.

    Raises QuorumLost when fewer than `federation.min_sites` answer; the checkpoint stays and a new run
    goes on from it.
    """
    nodes: dict[str, int] = {}
    for phase in PHASES[state.trains]:
        state = _run_phase(grid, state, phase, nodes, checkpoint, notify)
    state = state.evolve(finished=True)
    save_checkpoint(checkpoint, state)
    return state


def _run_phase(
    grid: Grid,
    state: StudyState,
    phase: Phase,
    nodes: dict[str, int],
    checkpoint: Path,
    notify: Callable[[Exchange], None],
) -> StudyState:
    """All exchanges of one phase; `nodes` (site -> node) is filled as sites make themselves known."""
    state = state.evolve(taking_part=state.active or state.sites)
    while (request := phase.request(state)) is not None:
        asked = phase.asked(state)
        begun = time.monotonic()
        answers, replies = _ask(grid, phase, request, asked, nodes, state)
        _name_the_others(answers, state)
        exchange = Exchange(
            phase=phase.name,
            action=request.action,
            round=getattr(request, "round", 0),
            seconds=time.monotonic() - begun,
            roster=dict(sorted(answers.roster.items())),
            codes=answers.codes,
            bytes_down=answers.bytes_down,
            bytes_up=answers.bytes_up,
            loss=_pooled(replies, "loss", "cases"),
            validation_loss=_pooled(replies, "validation_loss", "validation_cases"),
        )
        state = state.evolve(exchanges=(*state.exchanges, exchange))
        notify(exchange)
        _require_quorum(state, answers, checkpoint)
        survivors = answers.sites
        if phase.fixed_roster and survivors != state.taking_part:
            # Sums over different sites must not be mixed: begin the phase again with those left.
            state = state.evolve(scratch=None, taking_part=survivors)
            continue
        state = phase.conclude(state, replies)
        save_checkpoint(checkpoint, state)
    return state.evolve(scratch=None, taking_part=())


def _ask(
    grid: Grid, phase: Phase, request: Request, asked: Sequence[str], nodes: dict[str, int], state: StudyState
) -> tuple[_Answers, dict[str, Reply]]:
    """One exchange and what can be read of it: the replies, or, where the protocol sums securely, their sum."""
    kind = ANSWERS[request.action][1]
    if not state.protocol.federation.secure_aggregation or not kind.sums:
        answers = _exchange(grid, phase, request, asked, nodes, state)
        return answers, answers.replies

    def ask(question: Request, sites: Sequence[str]) -> _Answers:
        return _exchange(grid, phase, question, sites, nodes, state)

    answers, total = secure_exchange(ask, request, asked, kind)
    answers.sites = tuple(sorted(answers.replies))
    return answers, {} if total is None else {ALL_SITES: phase.admit(state, request, total)}


def _exchange(
    grid: Grid, phase: Phase, request: Request, asked: Iterable[str], nodes: dict[str, int], state: StudyState
) -> _Answers:
    """Send to every asked site, wait, sort what came back."""
    category, _ = ANSWERS[request.action]
    request = request.model_copy(update={"exchange": len(state.exchanges)})
    content = to_records(request)
    timeout = state.protocol.federation.timeout_s
    online = set(grid.get_node_ids())
    if request.action == "qualify":
        # A deployment registers each site's key under its name: nobody can answer for another hospital.
        names = {node.node_id: node.name for node in grid.get_nodes()}
        targets = {n: names.get(n, "") if names.get(n, "") in state.sites else "" for n in sorted(online)}
    else:
        _find_returning_sites(grid, asked, nodes, online, state)
        targets = {nodes[site]: site for site in asked if nodes.get(site) in online}
    answers = _Answers(FoldedReplies(phase, asked), roster=dict.fromkeys(state.taking_part, "not_asked"))
    answers.roster |= dict.fromkeys(asked, "absent")
    for site in targets.values():
        if site:
            answers.roster[site] = "late"
            answers.bytes_down[site] = size_in_bytes(content)
    messages = [
        Message(RecordDict(dict(content)), dst_node_id=node, message_type=f"{category}.{request.action}", ttl=timeout)
        for node in targets
    ]
    for message in grid.send_and_receive(messages, timeout=timeout):
        _sort_in(answers, message, targets, nodes, state, (phase, request))
    answers.replies, answers.sites = answers.folded.finish(), answers.folded.sites
    return answers


def _sort_in(
    answers: _Answers,
    message: Message,
    targets: dict[int, str],
    nodes: dict[str, int],
    state: StudyState,
    asked_by: tuple[Phase, Request],
) -> None:
    """File one reply under its site; what the phase does not admit is refused by name."""
    phase, request = asked_by
    kind = ANSWERS[request.action][1] if request.masking is None else MaskedReply
    node = message.metadata.src_node_id
    expected = targets.get(node, "")
    if message.has_error():
        if expected:
            answers.roster[expected] = "absent"
            answers.codes[expected] = f"carrier-error-{message.error.code}"
        return
    try:
        reply: Reply = from_records(message.content, Refusal if is_refusal(message.content) else kind)
    except StudyError as error:
        if expected:
            answers.refuse(expected, error.code)
        return
    site = expected or reply.site
    if site not in state.sites:
        return
    if reply.site != site:
        answers.refuse(site, "answers-for-another")
        return
    nodes.setdefault(site, node)
    answers.bytes_down.setdefault(site, 0)
    if site in answers.bytes_up:
        # Nobody can tell which of the two is the hospital's; taking the first would let the network decide.
        answers.refuse(site, "answered-twice")
        return
    answers.bytes_up[site] = size_in_bytes(message.content)
    code = reply.code if isinstance(reply, Refusal) else ""
    if not code and reply.exchange != request.exchange:
        code = "answers-another-question"
    try:
        reply = reply if code or isinstance(reply, STEPS) else phase.admit(state, request, reply)
    except StudyError as error:
        code = error.code
    if code:
        answers.refuse(site, code)
        return
    answers.roster[site] = "contributed"
    answers.folded.add(site, reply)


def _find_returning_sites(
    grid: Grid, asked: Iterable[str], nodes: dict[str, int], online: set[int], state: StudyState
) -> None:
    """A hospital whose node came back under another number (or a resumed server, which knows no numbers)
    is found by asking the unknown nodes who they are.
    """
    for node in grid.get_nodes():
        if node.name in state.qualified:
            nodes[node.name] = node.node_id
    strangers = online - set(nodes.values())
    if not strangers or all(nodes.get(site) in online for site in asked):
        return
    question = Qualify().question(state)
    category, kind = ANSWERS[question.action]
    timeout = state.protocol.federation.timeout_s
    messages = [
        Message(to_records(question), dst_node_id=node, message_type=f"{category}.{question.action}", ttl=timeout)
        for node in sorted(strangers)
    ]
    for message in grid.send_and_receive(messages, timeout=timeout):
        if not message.has_error() and not is_refusal(message.content):
            site = from_records(message.content, kind).site
            if site in state.qualified:
                nodes[site] = message.metadata.src_node_id


def _name_the_others(answers: _Answers, state: StudyState) -> None:
    """Every expected site has a status in every exchange."""
    for site in state.sites:
        if site in state.excluded:
            answers.roster[site] = "excluded"
            answers.codes.setdefault(site, state.excluded[site])
        else:
            answers.roster.setdefault(site, "absent")


def _pooled(replies: dict[str, Reply], value: str, cases: str) -> float | None:
    """The mean of a loss over all sites' cases; None where nobody has told it."""
    rounds = [reply for _, reply in sorted(replies.items()) if isinstance(reply, TrainRoundReply | SegmentRoundReply)]
    told = [
        (getattr(r, value), getattr(r, cases))
        for r in rounds
        if getattr(r, cases, 0) and getattr(r, value, None) is not None
    ]
    return sum(loss * n for loss, n in told) / sum(n for _, n in told) if told else None


def _require_quorum(state: StudyState, answers: _Answers, checkpoint: Path) -> None:
    needed = state.protocol.federation.min_sites
    if len(answers.sites) >= needed:
        return
    save_checkpoint(checkpoint, state)
    missing = ", ".join(
        f"{site} {status}" + (f" ({answers.codes[site]})" if site in answers.codes else "")
        for site, status in sorted(answers.roster.items())
        if status != "contributed"
    )
    raise QuorumLost(
        "quorum-lost",
        field="federation.min_sites",
        problem=f"{len(answers.sites)} of at least {needed} sites answered; {missing}.",
        fix="Bring the sites back and resume: the checkpoint is kept.",
    )
