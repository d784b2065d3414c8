"""status: a study as it stands, for the terminal, the page and Prometheus alike: sites online, phase, round, metrics,
bytes, refusals and privacy budgets, from the checkpoint and what the door last heard.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table

from common.command import screen
from common.errors import StudyError
from common.metrics import roc_cells
from common.metrics.score_cells import ScoreCells
from common.metrics.score_histogram import cells_of
from common.privacy.accounting import Event, epsilon_of
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.deployment import read_outcome
from server.state import StudyState
from server.strategy.site_level import site_level_event

__all__ = ["as_picture", "as_row", "heard_s_ago", "in_words", "standing", "watch_status"]

LOOK_S = 1.0
LAST_EXCHANGES = 15
"""What a terminal that is watched has room for."""
ONLINE_S = 60.0
"""A SuperNode asks for work at least every twelve seconds."""


def standing(study: Path, state: StudyState | None, sites: Sequence[str]) -> dict[str, Any]:
    """Where the study is now; every count is since its beginning.

    state: None before the first exchange.
    metrics: loss and validation_loss of the last round's incoming model; of the last evaluation the AUC by set, within
        half_width of the exact one, or the test cases' Dice; None or absent before.
    sites: site -> heard (seconds ago or None), online, last (its status in the last exchange) and its code, bytes down
        and up, refusals by code.
    privacy: by level epsilon (None: no bound), delta and the protocol's limit; empty without differential privacy.
    """
    heard, exchanges = heard_s_ago(study), () if state is None else state.exchanges
    outcome = read_outcome(study)
    told = {}
    for site in sites:
        mine = [e for e in exchanges if site in e.roster]
        told[site] = {
            "heard": heard.get(site),
            "online": heard.get(site, ONLINE_S) < ONLINE_S,
            "last": mine[-1].roster[site] if mine else "",
            "code": mine[-1].codes.get(site, "") if mine else "",
            "down": sum(e.bytes_down.get(site, 0) for e in mine),
            "up": sum(e.bytes_up.get(site, 0) for e in mine),
            "refusals": dict(Counter(e.codes[site] for e in mine if e.roster[site] == "refused")),
        }
    phases: dict[str, dict[str, float]] = {}
    for e in exchanges:
        phase = phases.setdefault(e.phase, {"exchanges": 0, "seconds": 0.0})
        phase["exchanges"], phase["seconds"] = phase["exchanges"] + 1, phase["seconds"] + e.seconds
    return {
        "status": outcome["code"] if outcome else "under way" if exchanges else "waiting for the first exchange",
        "phase": exchanges[-1].phase if exchanges else "",
        "action": exchanges[-1].action if exchanges else "",
        "rounds_done": state.rounds_done if state else 0,
        "rounds": state.rounds if state else 0,
        "metrics": {} if state is None else _metrics(state),
        "sites": told,
        "phases": phases,
        "privacy": {} if state is None else _spent(state),
    }


def as_row(state: StudyState, study: Path) -> dict[str, Any]:
    """For machines."""
    return {
        **standing(study, state, state.sites),
        "study": state.study,
        "status": state.status(),
        "excluded": state.excluded,
        "origin": None if state.origin is None else state.origin.model_dump(),
        "exchanges": [e.model_dump() for e in state.exchanges],
        "heard_s_ago": heard_s_ago(study),
    }


def as_picture(state: StudyState, study: Path, *, most: int | None = None) -> Group:
    """For people; most: how many of the last exchanges are shown, None for all."""
    now = standing(study, state, state.sites)
    sites = Table("site", "", "heard", "last exchange", "down MB", "up MB", "refusals")
    for name, s in now["sites"].items():
        online = "" if s["heard"] is None else "online" if s["online"] else "silent"
        heard = "" if s["heard"] is None else f"{s['heard']:.0f} s ago"
        refusals = ", ".join(f"{count} {code}" for code, count in s["refusals"].items())
        traffic = (f"{s['down'] / 1e6:.2f}", f"{s['up'] / 1e6:.2f}")
        sites.add_row(name, online, heard, s["last"], *traffic, refusals)
    shown = state.exchanges if most is None else state.exchanges[-most:]
    rows = Table("phase", "exchange", "round", *state.sites)
    for e in shown:
        rows.add_row(e.phase, e.action, str(e.round or ""), *(e.roster.get(site, "") for site in state.sites))
    return Group(f"{state.study}: {state.status()}", *in_words(now), sites, rows)


def in_words(now: dict[str, Any]) -> list[str]:
    """Phase and round, metrics and privacy budgets of a `standing`, one sentence each."""
    metrics, told = now["metrics"], []
    for key, word in (("loss", "training loss"), ("validation_loss", "validation loss"), ("dice", "test Dice")):
        if metrics.get(key) is not None:
            told.append(f"{word} {metrics[key]:.4f}")
    for name, found in metrics.get("auc", {}).items():
        bound = f" ± {found['half_width']:.4f}" if found["half_width"] else ""
        told.append(f"{name} AUC {found['value']:.4f}{bound}")
    lines = [f"{now['phase']} ({now['action']}), round {now['rounds_done']} of {now['rounds']}"] if now["phase"] else []
    lines += [", ".join(told)] if told else []
    for level, spent in now["privacy"].items():
        epsilon = "without bound" if spent["epsilon"] is None else f"{spent['epsilon']:.2f}"
        limit = "" if spent["limit"] is None else f" of {spent['limit']:g}"
        lines.append(
            f"privacy of each {level}: epsilon {epsilon}{limit} spent by this study (delta {spent['delta']:g})"
        )
    return lines


def heard_s_ago(study: Path) -> dict[str, float]:
    """Site -> seconds since its last request; empty where there is no deployment."""
    try:
        seen: dict[str, float] = json.loads((study / "state" / "seen.json").read_text())
    except FileNotFoundError:
        return {}
    now = time.time()
    return {site: round(now - then, 1) for site, then in sorted(seen.items())}


def watch_status(study: Path) -> None:
    """Show it anew every second until the run has ended."""
    with Live(console=screen, auto_refresh=False) as live:
        while read_outcome(study) is None:
            if (study / CHECKPOINT).exists():
                live.update(as_picture(load_checkpoint(study / CHECKPOINT), study, most=LAST_EXCHANGES), refresh=True)
            else:
                live.update("waiting for the first exchange", refresh=True)
            time.sleep(LOOK_S)


def _metrics(state: StudyState) -> dict[str, Any]:
    found: dict[str, Any] = {"auc": {}, "dice": state.mean_dice()}
    for name in ("loss", "validation_loss"):
        losses = [getattr(e, name) for e in state.exchanges if getattr(e, name) is not None]
        found[name] = losses[-1] if losses else None
    for name, counts in state.histograms.items():
        exact = name == "test" and state.score_cells
        with suppress(StudyError):  # cases of one class have none
            seen = roc_cells.auc(ScoreCells(**state.score_cells, exact=True) if exact else cells_of(counts))
            found["auc"][name] = {"value": seen.auc, "half_width": seen.half_width}
    return found


def _spent(state: StudyState) -> dict[str, Any]:
    """Of the finished rounds and of private statistics, by the quick accountant; what others spent on the same cases
    stands in sites' ledgers.
    """
    privacy, rounds = state.protocol.privacy, state.rounds_done
    found: dict[str, tuple[list[Event], float, float | None]] = {}
    asked = privacy.record_level
    if asked is not None:
        events: list[Event] = [asked.event(state.protocol.training, rounds)] if rounds else []
        if asked.statistics is not None and state.moments is not None and state.origin is None:
            events.extend(asked.statistics.events())
        found["case"] = (events, asked.delta, privacy.epsilon_limit)
    if privacy.site_level is not None:
        hidden: list[Event] = [site_level_event(privacy.site_level, rounds)] if rounds else []
        found["site"] = (hidden, privacy.site_level.delta, None)
    told = {}
    for level, (events, delta, limit) in found.items():
        epsilon = epsilon_of(events, delta, "rdp")
        told[level] = {"epsilon": epsilon if math.isfinite(epsilon) else None, "delta": delta, "limit": limit}
    return told
