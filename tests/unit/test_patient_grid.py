"""The patient grid: a site that dies in a round is asked again; every site answers at most once."""

from __future__ import annotations

import itertools

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

from server import patient_grid
from server.patient_grid import ASK_AT_MOST, PatientGrid


class _Carrier:
    """nodes: node -> when its session began; `answer(node, times)` is what the n-th question to it gets."""

    def __init__(self, nodes, answer) -> None:
        self.nodes, self.answer = nodes, answer
        self.asked = dict.fromkeys(nodes, 0)
        self._numbers, self._open = itertools.count(), {}

    def get_nodes(self):
        return [NodeInfo(node_id=node, last_activated_at=session) for node, session in self.nodes.items() if session]

    def push_messages(self, messages):
        pushed = []
        for message in messages:
            node, identity = message.metadata.dst_node_id, f"m{next(self._numbers)}"
            message.metadata.__dict__["_message_id"] = identity
            self.asked[node] += 1
            self._open[identity] = (message, self.answer(node, self.asked[node]))
            pushed.append(identity)
        return pushed

    def pull_messages(self, ids):
        arrived = []
        for identity in list(ids):
            message, answer = self._open[identity]
            if answer is None:
                continue
            body = Error(*answer) if isinstance(answer, tuple) else RecordDict()
            reply = Message(body, reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1 if isinstance(answer, tuple) else message.metadata.dst_node_id
            arrived.append(reply)
            del self._open[identity]
        return arrived


DEAD = (ErrorCode.NODE_UNAVAILABLE, "gone")


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    """Flower fills a message from the process it is made in."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(patient_grid.time, "sleep", lambda _: None)


def ask(carrier, *, patience_s=5.0, timeout=50.0):
    """Every look takes a second of this clock."""
    clock = itertools.count()
    grid = PatientGrid(carrier, patience_s=patience_s, now=lambda: float(next(clock)))
    assert grid.get_node_ids() == sorted(carrier.nodes)
    messages = [Message(RecordDict(), dst_node_id=node, message_type="query.x", ttl=60) for node in carrier.nodes]
    replies = grid.send_and_receive(messages, timeout=timeout)
    return grid, {(reply.metadata.src_node_id, reply.has_error()) for reply in replies}


def test_all_answer_at_once():
    carrier = _Carrier({7: "a", 8: "a"}, lambda node, times: "reply")

    _, replies = ask(carrier)

    assert replies == {(7, False), (8, False)}
    assert carrier.asked == {7: 1, 8: 1}


def test_a_site_that_died_is_asked_again():
    carrier = _Carrier({7: "a", 8: "a"}, lambda node, times: DEAD if node == 8 and times == 1 else "reply")

    _, replies = ask(carrier)

    assert replies == {(7, False), (8, False)}
    assert carrier.asked == {7: 1, 8: 2}


def test_a_site_restarted_before_anyone_noticed_is_asked_again():
    def answer(node, times):
        if times == 1:
            carrier.nodes[node] = "b"  # a new session: the question went down with the old one
            return None
        return "reply"

    carrier = _Carrier({7: "a"}, answer)

    _, replies = ask(carrier)

    assert (replies, carrier.asked) == ({(7, False)}, {7: 2})


def test_a_site_that_stays_away_is_named_and_not_hoped_for():
    def answer(node, times):
        carrier.nodes[8] = ""  # offline
        return DEAD if node == 8 else "reply"

    carrier = _Carrier({7: "a", 8: "a"}, answer)
    grid, replies = ask(carrier)

    assert replies == {(7, False), (8, True)}
    assert grid.get_node_ids() == [7]


def test_a_message_that_kills_its_site_each_time_ends():
    carrier = _Carrier({7: "a"}, lambda node, times: (ErrorCode.CLIENT_APP_CRASHED, "out of memory"))

    _, replies = ask(carrier, patience_s=1000, timeout=1000)

    assert (replies, carrier.asked) == ({(7, True)}, {7: ASK_AT_MOST})


def test_a_site_that_is_still_at_work_gives_nothing():
    carrier = _Carrier({7: "a"}, lambda node, times: None)

    _, replies = ask(carrier)

    assert (replies, carrier.asked) == (set(), {7: 1})


def test_an_error_of_the_sites_code_is_not_asked_again():
    carrier = _Carrier({7: "a"}, lambda node, times: (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "ValueError"))

    _, replies = ask(carrier)

    assert (len(replies), carrier.asked) == (1, {7: 1})
