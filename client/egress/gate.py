"""gate: the one way out of the hospital: rules, then the audit log, then the bytes.

Refusals pass it too: they are bytes that leave.  Two things leave unlogged, because there is no log to write to:
that the log cannot be written or was changed, and that the site's own settings cannot be read; both are constants
of this software and hold nothing of a case (client/app.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import RecordDict

from client.egress.audit_log import AuditLog
from client.egress.rules import EgressRules, apply_rules, check_message, check_rounds, check_size
from common.messages.base import Refusal, Reply
from common.messages.records import digest, size_in_bytes, to_records

__all__ = ["Gate", "Question"]

ROUNDS = ("train_round", "segment_round")
"""Of the classifier and of the segmentation network: `most_rounds` counts both."""


@dataclass(frozen=True)
class Question:
    """What a reply answers; protocol: the site's own fingerprint."""

    action: str
    protocol: str
    study: str = ""
    round: int = 0


@dataclass(frozen=True)
class Gate:
    """One site's door."""

    rules: EgressRules
    log: AuditLog

    def require_allowed(self, action: str) -> None:
        """Refused `egress-message` before any work is done."""
        check_message(action, self.rules)

    def release(self, question: Question, reply: Reply) -> RecordDict:
        """The reply as it may leave; it is on the log when this returns.

        Refused by a rule (the refusal itself is then to be released), or by the audit log: then nothing may leave.
        """
        with self.log.writing() as writer:
            records = self._admitted(question, reply, writer.chain.lines)
            writer.append(
                {
                    "event": "left",
                    "action": question.action,
                    "protocol": question.protocol,
                    "study": question.study,
                    "round": question.round,
                    "kind": type(reply).__name__,
                    "code": reply.code if isinstance(reply, Refusal) else "",
                    "bytes": size_in_bytes(records),
                    "digest": digest(records),
                    "rules": self.rules.version(),
                }
            )
        return records

    def _admitted(self, question: Question, reply: Reply, lines: tuple[Mapping[str, Any], ...]) -> RecordDict:
        if isinstance(reply, Refusal):
            return to_records(reply)
        records = to_records(apply_rules(question.action, reply, self.rules))
        check_size(question.action, size_in_bytes(records), self.rules)
        if question.action in ROUNDS:
            check_rounds(question.action, _rounds(lines, question.protocol), self.rules)
        return records


def _rounds(lines: tuple[Mapping[str, Any], ...], protocol: str) -> int:
    """Rounds answered so far; refused ones told nothing."""
    return sum(line.get("action") in ROUNDS and line["protocol"] == protocol and not line["code"] for line in lines)
