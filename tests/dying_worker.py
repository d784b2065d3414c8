"""dying_worker: stands in for the preparation of a case, in a process of its own, and dies for the case `killer`."""

from __future__ import annotations

import os

from client.site import Site
from client.tasks.prepare_cohort import CaseOutcome, _Work

__all__ = ["prepare_or_die"]


def prepare_or_die(work: _Work, *, site: Site, pictures: bool) -> CaseOutcome:
    """As the operating system ends a process that takes too much memory."""
    if work.row.pseudonym == "killer":
        os._exit(137)
    return CaseOutcome(work.row.pseudonym, "prepared")
