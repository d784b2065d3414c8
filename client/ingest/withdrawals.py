"""withdrawals: the list of withdrawn cases beside the manifest, which no later manifest can forget.

`NAME.withdrawn.csv` beside `NAME.csv` (or .xlsx): pseudonym, day, reason.  A case in it is excluded, whatever the
manifest says; a hospital that was wrong takes the line out again by hand.
"""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path

from client.disk import write_whole
from client.ingest.spreadsheet import read_spreadsheet

__all__ = ["add_withdrawal", "withdrawals_file", "withdrawn_cases"]

COLUMNS = ("pseudonym", "day", "reason")


def withdrawals_file(manifest: Path) -> Path:
    """Where the list lies."""
    return manifest.with_suffix(".withdrawn.csv")


def withdrawn_cases(manifest: Path) -> dict[str, str]:
    """Day of withdrawal by pseudonym; empty without a list.  InputError `withdrawals-unreadable`."""
    path = withdrawals_file(manifest)
    if not path.exists():
        return {}
    _, rows = read_spreadsheet(path, field="withdrawals")
    return {row.get("pseudonym", ""): row.get("day", "") for row in rows}


def add_withdrawal(manifest: Path, pseudonym: str, *, day: date, reason: str) -> None:
    """Append a case that is not yet there; InputError `disk-full`, `folder-read-only`."""
    if pseudonym in withdrawn_cases(manifest):
        return
    path = withdrawals_file(manifest)
    text = path.read_text(encoding="utf-8-sig") if path.exists() else ",".join(COLUMNS) + "\n"
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow((pseudonym, day.isoformat(), reason))
    write_whole(path, (text.rstrip("\n") + "\n" + line.getvalue()).encode(), field="manifest")
