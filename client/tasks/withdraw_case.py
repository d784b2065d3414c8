"""withdraw_case: take a case out of everything that comes, and name the runs that it has been in.

The site tells the coordinator study and fingerprint, never the case; the coordinator repeats the run, and the case
takes part no more, so that the new run is the one that would have been without it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from client.ingest.manifest import read_manifest
from client.ingest.withdrawals import add_withdrawal, withdrawn_cases
from client.site import Site
from client.store.run_ledger import Run, RunLedger
from common.errors import InputError

__all__ = ["Withdrawal", "runs_of", "withdraw_case"]


@dataclass(frozen=True)
class Withdrawal:
    """runs: that used the case; kept: what of it still lies in the cache, for the hospital to delete or to keep."""

    pseudonym: str
    runs: tuple[dict[str, Any], ...]
    kept: tuple[Path, ...]


def withdraw_case(site: Site, pseudonym: str, *, reason: str, when: datetime) -> Withdrawal:
    """InputError `case-unknown` where the manifest has no such case and none was withdrawn under this name."""
    manifest = site.settings.manifest
    known = {row.pseudonym for row in read_manifest(manifest, site=site.settings.name)}
    if pseudonym not in known | set(withdrawn_cases(manifest)):
        raise InputError(
            "case-unknown",
            site=site.settings.name,
            field="case",
            problem="The manifest has no case of this pseudonym.",
            fix="Write it as the manifest does.",
            local=pseudonym,
        )
    add_withdrawal(manifest, pseudonym, day=when.date(), reason=reason)
    ledger = RunLedger(site.settings.cache)
    runs = ledger.runs(pseudonym)
    keys = {run.training.get(pseudonym) or run.test.get(pseudonym, "") for run in runs} - {""}
    cache = site.settings.cache
    places = [*(cache / "features" / key for key in sorted(keys)), cache / "pictures" / f"{pseudonym}.png"]
    return Withdrawal(pseudonym, tuple(_told(run, pseudonym) for run in runs), tuple(p for p in places if p.exists()))


def runs_of(site: Site, pseudonym: str = "") -> list[dict[str, Any]]:
    """Runs of this site's cases, or of one."""
    return [_told(run, pseudonym) for run in RunLedger(site.settings.cache).runs(pseudonym)]


def _told(run: Run, pseudonym: str) -> dict[str, Any]:
    """A run with counts in place of cases, and what it did with this one."""
    told = {key: value for key, value in asdict(run).items() if key not in {"training", "test"}}
    told |= {"training_cases": len(run.training), "test_cases": len(run.test)}
    if pseudonym:
        told["used_for"] = "training" if pseudonym in run.training else "test"
    return told
