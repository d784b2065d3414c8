"""event_log: the structured logs of a deployment: JSON lines for machines and, on the terminal, words for people.

A line is one object: `time` (ISO 8601, UTC), `event` (a code) and named fields; docs/deployment.md lists them.
What Flower's programs print lies in files of their own, as it comes (`keeper`).  Neither kind grows for ever.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["LARGEST_LOG", "EventLog", "keep_small"]

LARGEST_LOG = 20 * 2**20


@dataclass(frozen=True)
class EventLog:
    """Appends to `path`, which one process writes; `echo` also prints each event for people."""

    path: Path
    echo: bool = True

    def __call__(self, event: str, **fields: object) -> None:
        """Write one event; its fields hold no patient data, except in a hospital's own site.log.  OSError."""
        keep_small(self.path)
        row = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.echo:
            words = " ".join(f"{key}={value}" for key, value in fields.items())
            sys.stderr.write(f"{row['time']} {event} {words}".rstrip() + "\n")


def keep_small(path: Path) -> None:
    """Put a log of more than 20 MiB aside, in place of the one that was put aside before (x.log: x.old.log).

    Copied and emptied, not renamed: a program goes on writing to the file that it holds open.
    """
    if not path.exists() or path.stat().st_size <= LARGEST_LOG:
        return
    aside = path.with_suffix(f".old{path.suffix}")
    aside.unlink(missing_ok=True)
    with suppress(OSError):  # on a full disk the old lines are lost, and their space is free
        shutil.copyfile(path, aside)
    os.truncate(path, 0)
