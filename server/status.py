"""status: a study as it stands: the roster of every exchange, and when the door last heard of each site."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from common.command import screen
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.deployment import read_outcome
from server.state import StudyState

__all__ = ["as_row", "as_table", "heard_s_ago", "watch_status"]

LOOK_S = 1.0


def as_row(state: StudyState) -> dict[str, Any]:
    """For machines."""
    return {
        "study": state.study,
        "status": state.status(),
        "rounds_done": state.rounds_done,
        "rounds": state.rounds,
        "excluded": state.excluded,
        "origin": None if state.origin is None else state.origin.model_dump(),
        "exchanges": [e.model_dump() for e in state.exchanges],
    }


def as_table(state: StudyState, study: Path) -> Table:
    """For people."""
    table = Table("phase", "exchange", "round", *state.sites, title=f"{state.study}: {state.status()}")
    for e in state.exchanges:
        table.add_row(e.phase, e.action, str(e.round or ""), *(e.roster.get(site, "") for site in state.sites))
    heard = heard_s_ago(study)
    if heard:
        table.caption = "last heard: " + ", ".join(f"{site} {seconds:.0f} s ago" for site, seconds in heard.items())
    return table


def heard_s_ago(study: Path) -> dict[str, float]:
    """Site -> seconds since its last request; empty where there is no deployment."""
    try:
        seen: dict[str, float] = json.loads((study / "state" / "seen.json").read_text())
    except FileNotFoundError:
        return {}
    now = time.time()
    return {site: round(now - then, 1) for site, then in sorted(seen.items())}


def watch_status(study: Path) -> None:
    """Show the table anew whenever it changes, until the run has ended."""
    with Live(console=screen, auto_refresh=False) as live:
        while read_outcome(study) is None:
            if (study / CHECKPOINT).exists():
                live.update(as_table(load_checkpoint(study / CHECKPOINT), study), refresh=True)
            else:
                live.update("waiting for the first exchange", refresh=True)
            time.sleep(LOOK_S)
