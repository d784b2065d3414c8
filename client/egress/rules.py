"""rules: what may leave, and what must be withheld or rounded first; the strictest of site and protocol holds.

A reply passes `apply_rules`.  What is to leave masked passes `check_summand` before it is masked: the server reads the
sum over sites only, so a site's single cells are nobody's to see, but how many cases it puts in is still its own affair.

    egress-message        the site's list does not name this message
    egress-undeclared     the message does not say what it tells, so nobody can judge it
    egress-label          counts by H3 status may not cross this site's border
    egress-small-cell     a count that is added up over sites is below the limit
    egress-few-cases      too few cases stand behind a sum, a mean or an update
    egress-size           the reply is larger than the site allows
    egress-rounds         the site has answered as many rounds of this protocol as it allows

A refusal names the rule, the field and the cure; never the value.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from common.config.egress import EgressFloor, EgressSettings
from common.errors import Refused
from common.messages.base import Reply
from common.privacy.disclosure import Disclosure
from common.privacy.small_cells import round_to, small_cells, withheld_levels

__all__ = [
    "RULES_VERSION",
    "EgressRules",
    "apply_rules",
    "check_message",
    "check_rounds",
    "check_size",
    "check_summand",
    "strictest",
]

RULES_VERSION = 2
"""Raised whenever the same settings let something else out."""

Kind = TypeVar("Kind", bound=Reply)


@dataclass(frozen=True)
class EgressRules:
    """The rules in force; fields as in common/config/egress.py."""

    allow: tuple[str, ...]
    min_cell: int
    zeros_disclosive: bool
    min_cases: int
    rounding: int
    largest_reply_mb: float
    most_rounds: int
    labels_stay: bool

    def version(self) -> str:
        """For the audit log: the software's version of the rules, and a digest of the settings."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{RULES_VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def strictest(site: EgressSettings, protocol: EgressFloor) -> EgressRules:
    """Of each rule the stricter setting."""
    forbidding = "forbid_counts_by_h3"
    return EgressRules(
        allow=site.allow,
        min_cell=max(site.min_cell, protocol.min_cell or 0),
        zeros_disclosive=site.zeros_disclosive or bool(protocol.zeros_disclosive),
        min_cases=max(site.min_cases, protocol.min_cases or 1),
        rounding=int(np.lcm(site.rounding, protocol.rounding or 1)),
        largest_reply_mb=min(site.largest_reply_mb, protocol.largest_reply_mb or np.inf),
        most_rounds=min(site.most_rounds, site.most_rounds if protocol.most_rounds is None else protocol.most_rounds),
        labels_stay=forbidding in (site.cross_border, protocol.cross_border),
    )


def apply_rules(action: str, reply: Kind, rules: EgressRules) -> Kind:
    """The reply as it may leave; Refused with one of the codes above."""
    check_message(action, rules)
    if rules.labels_stay:
        reply = _without_labels(action, reply)
    tells = _told_by(action, reply)
    for field, counts in tells.counts.items():
        if small_cells(np.asarray(counts), min_cell=rules.min_cell, zeros=rules.zeros_disclosive):
            raise _refused(
                "egress-small-cell",
                f"{action}.{field}",
                "Counts are too small to leave the site.",
                "Use fewer cells, add cases, or set egress.min_cell in the site's and the protocol's file.",
            )
    _check_cases(action, tells, rules)
    return reply.model_copy(update={field: _told(getattr(reply, field), rules) for field in tells.told})


def check_summand(action: str, reply: Reply, rules: EgressRules) -> None:
    """May this be masked and added to other sites'?  Refused egress-undeclared, egress-label, egress-few-cases.

    Message, size and rounds are looked at when the masked reply leaves (client/egress/gate.py).
    """
    tells = _told_by(action, reply)
    if rules.labels_stay and tells.by_label:
        raise _labels_refused(action)
    _check_cases(action, tells, rules)


def check_message(action: str, rules: EgressRules) -> None:
    """Is it on the site's list?"""
    if action not in rules.allow:
        raise _refused(
            "egress-message",
            action,
            "The site does not answer this message.",
            "Add it to egress.allow in site.yaml, or leave the site out.",
        )


def check_size(action: str, size: int, rules: EgressRules) -> None:
    """Of the reply as it travels, bytes."""
    if size > rules.largest_reply_mb * 1e6:
        raise _refused(
            "egress-size",
            action,
            "The reply is larger than the site allows.",
            "Choose a smaller encoding (training.encoding), or set egress.largest_reply_mb in site.yaml.",
        )


def check_rounds(action: str, answered: int, rules: EgressRules) -> None:
    """answered: training rounds of this protocol so far."""
    if answered >= rules.most_rounds:
        raise _refused(
            "egress-rounds",
            action,
            "The site has answered as many training rounds of this protocol as it allows.",
            "Ask the site for more: egress.most_rounds in site.yaml.",
        )


def _told_by(action: str, reply: Reply) -> Disclosure:
    tells = reply.discloses()
    if tells is None:
        raise _refused(
            "egress-undeclared",
            action,
            "The message does not say what it tells about cases.",
            "Give it a `discloses` in common/messages.",
        )
    return tells


def _check_cases(action: str, tells: Disclosure, rules: EgressRules) -> None:
    for field, cases in tells.cases.items():
        # A sum over no case tells of nobody.
        if small_cells(np.asarray(cases), min_cell=rules.min_cases, zeros=False):
            raise _refused(
                "egress-few-cases",
                f"{action}.{field}",
                "Too few cases stand behind what would leave the site.",
                "Add cases, or set egress.min_cases in the site's file.",
            )


def _without_labels(action: str, reply: Kind) -> Kind:
    tells = reply.discloses()
    if tells is None or not tells.by_label:
        return reply
    bare = reply.without_labels()
    if bare is None:
        raise _labels_refused(action)
    return bare


def _labels_refused(action: str) -> Refused:
    return _refused(
        "egress-label",
        action,
        "Counts by H3 status may not leave the site.",
        "Use a protocol that needs none here, such as a fixed signature, or set egress.cross_border: allow.",
    )


def _told(counts: tuple[int | None, ...], rules: EgressRules) -> tuple[int | None, ...]:
    """Small ones and their complements withheld, the others rounded."""
    known = {str(place): (count,) for place, count in enumerate(counts) if count is not None}
    withheld = withheld_levels(known, min_cell=rules.min_cell)
    return tuple(
        None if count is None or str(place) in withheld else round_to(count, rules.rounding)
        for place, count in enumerate(counts)
    )


def _refused(code: str, field: str, problem: str, fix: str) -> Refused:
    return Refused(code, field=field, problem=problem, fix=fix)
