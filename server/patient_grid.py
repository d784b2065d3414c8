"""patient_grid: a Flower Grid for hospitals: a site that is lost in the middle of a round is waited for and asked again.

Flower ends a round without a site 52 seconds after its node died, and never asks it again; and it looks for replies
every three seconds.  Here a site that comes back within `patience_s` answers the same round, so that the weights are
those of an undisturbed run.  A site asked twice computes the same reply twice; only one of the two is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

__all__ = ["PatientGrid"]

LOST = (
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    ErrorCode.NODE_UNAVAILABLE,
    ErrorCode.CLIENT_APP_CRASHED,
)
"""Errors of the carrier, not of the site's code: asking again may help."""
ASK_AT_MOST = 5
"""A message that kills its site each time must not go on for ever."""
FASTEST_S, SLOWEST_S, LOOK_AT_NODES_S = 0.05, 0.5, 2.0


@dataclass
class _Question:
    """asked: how often; session: when the node's session began; lost_at: since when it is waited for."""

    message: Message
    identity: str = ""
    session: str = ""
    asked: int = 0
    lost_at: float | None = None
    error: Message | None = None


class PatientGrid(Grid):
    """Wraps Flower's grid.

    patience_s: how long a lost site is waited for.  One that stays away so long is given up: later rounds ask it
        again when it is online, but do not wait for it.
    now: the clock; an argument for tests.
    """

    def __init__(self, grid: Grid, *, patience_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._grid = grid
        self._patience_s = patience_s
        self._now = now
        self._hoped_for: set[int] = set()

    def set_run(self, run: Run) -> None:
        """As Flower's."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """As Flower's."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """As Flower's."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Those online now."""
        nodes: Iterable[NodeInfo] = self._grid.get_nodes()
        return nodes

    def get_node_ids(self) -> Iterable[int]:
        """Those online now, and those that have been and are not given up."""
        self._hoped_for |= {node.node_id for node in self.get_nodes()}
        return sorted(self._hoped_for)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As Flower's."""
        identities: Iterable[str] = self._grid.push_messages(messages)
        return identities

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As Flower's."""
        replies: Iterable[Message] = self._grid.pull_messages(message_ids)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """One reply, or one error that names its node, for every message; none for a site that is still at work."""
        begun = self._now()
        end = begun + timeout if timeout is not None else float("inf")
        open_questions = {message.metadata.dst_node_id: _Question(message) for message in messages}
        for question in open_questions.values():
            question.lost_at = begun
        replies: list[Message] = []
        pause, looked = FASTEST_S, float("-inf")
        while open_questions and self._now() < end:
            if self._now() - looked >= LOOK_AT_NODES_S:
                looked = self._now()
                self._ask(open_questions)
            arrived = self._collect(open_questions) + self._give_up(open_questions)
            replies += arrived
            pause = FASTEST_S if arrived else min(SLOWEST_S, 1.5 * pause)
            if open_questions:
                time.sleep(pause)
        return replies

    def _ask(self, questions: dict[int, _Question]) -> None:
        """Send what waits for its node, and again what a node took with it when it was restarted."""
        online = {node.node_id: node.last_activated_at for node in self.get_nodes()}
        ready = [
            (node, question)
            for node, question in questions.items()
            if node in online
            and (question.lost_at is not None or online[node] != question.session)
            and question.asked < ASK_AT_MOST
        ]
        for node, question in ready:
            copy = self._again(question.message)
            (question.identity,) = self._grid.push_messages([copy])
            question.session, question.lost_at = online[node], None
            question.asked += 1

    def _again(self, message: Message) -> Message:
        """A new message of the same content: Flower knows a message by its content and its time."""
        ttl = message.metadata.ttl
        return Message(message.content, message.metadata.dst_node_id, message.metadata.message_type, ttl=ttl)

    def _collect(self, questions: dict[int, _Question]) -> list[Message]:
        """Replies that are there; an error of the carrier makes its node a lost one."""
        waiting = {q.identity: node for node, q in questions.items() if q.identity and q.lost_at is None}
        if not waiting:
            return []
        replies = []
        for message in self._grid.pull_messages(list(waiting)):
            node = waiting.get(message.metadata.reply_to_message_id)
            if node is None:
                continue
            if message.has_error() and message.error.code in LOST:
                # Flower lets the server itself answer for a dead node; the workflow wants to know which.
                message.metadata.__dict__["_src_node_id"] = node
                questions[node].lost_at, questions[node].error = self._now(), message
                continue
            self._hoped_for.add(node)
            del questions[node]
            replies.append(message)
        return replies

    def _give_up(self, questions: dict[int, _Question]) -> list[Message]:
        """Nodes that stayed away for too long, or died of every attempt, end with their error."""
        now = self._now()
        gone = [
            node
            for node, question in questions.items()
            if question.lost_at is not None
            and (now - question.lost_at >= self._patience_s or question.asked >= ASK_AT_MOST)
        ]
        self._hoped_for -= set(gone)
        ended = [questions.pop(node) for node in gone]
        return [question.error for question in ended if question.error is not None]
