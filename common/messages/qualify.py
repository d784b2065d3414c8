"""qualify: does the site run this protocol, and with how many cases?

Leaves the site: its name, counts of training and test cases by class, the names of the batches (scanners) of its
training cases where the protocol harmonises them, software versions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from common.messages.base import Reply, Request

__all__ = ["QualifyReply", "QualifyRequest"]


class QualifyRequest(Request):
    """`protocol` in full, so that a site which differs can name the field that differs."""

    action: ClassVar[str] = "qualify"
    protocol: dict[str, Any]


class QualifyReply(Reply):
    """Counts by class: (altered, not altered)."""

    training_cases: tuple[int, int]
    test_cases: tuple[int, int]
    batches: tuple[str, ...] = ()
    versions: dict[str, str]
