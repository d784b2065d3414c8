"""doors: what the virtual hospitals' doors allowed and what left by them, for the report's reader."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from client.site import open_site
from client.tasks.open_gate import open_audit_log, rules_of
from common.config.egress import EgressSettings

__all__ = ["tell_doors"]


def tell_doors(sites: Iterable[Path]) -> tuple[str, ...]:
    """One line on the rules, which a synthetic cohort may relax, and one on the logs."""
    opened = [open_site(path) for path in sites]
    rules, usual = rules_of(opened[0]), EgressSettings()
    lines, faults = 0, 0
    for site in opened:
        report = open_audit_log(site, lambda: datetime.now(UTC)).verify()
        lines += len(report.lines)
        faults += report.fault is not None
    return (
        f"egress: these sites let counts from {rules.min_cell} and sums over {rules.min_cases} or more cases leave, rounded "
        f"to {rules.rounding}; their cases are invented. A hospital's default is {usual.min_cell}, {usual.min_cases} and "
        f"{usual.rounding}: it would refuse tables by bin and class, order statistics and fine score histograms.",
        f"egress: {lines} messages left {len(opened)} sites in all studies of this folder, every one on its site's audit log "
        f"(fedmidline-site egress); logs not as they were written: {faults}.",
    )
