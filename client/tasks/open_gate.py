"""open_gate: the site's door, from its settings and its copy of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from client.egress.audit_log import AuditLog
from client.egress.gate import Gate
from client.egress.rules import EgressRules, strictest
from client.site import Site

__all__ = ["open_audit_log", "open_gate", "rules_of"]


def open_gate(site: Site, clock: Callable[[], datetime]) -> Gate:
    """Rules and log; nothing is read or written yet."""
    return Gate(rules_of(site), open_audit_log(site, clock))


def rules_of(site: Site) -> EgressRules:
    """The strictest of site and protocol."""
    return strictest(site.settings.egress, site.protocol.egress)


def open_audit_log(site: Site, clock: Callable[[], datetime]) -> AuditLog:
    """Several sites of a simulation share a cache; each has a log of its own."""
    return AuditLog(site.settings.cache / "egress" / f"{site.settings.name}.jsonl", clock)
