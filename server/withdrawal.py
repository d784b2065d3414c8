"""withdrawal: which runs and releases a site (and so any case of it) has gone into, and the same study without it.

The server knows sites and counts; which case was in which run only the hospital knows (client/store/run_ledger.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from common.config.parse import parse_settings
from common.config.study import StudySettings
from common.errors import InputError, Refused
from common.messages.model_files import NUMBERS
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.releases import Release, list_releases, version_of
from server.state import StudyState

__all__ = ["affected_by", "rerun_study"]

STUDY = "study.yaml"


def affected_by(folder: Path, *, site: str, releases: Path | None) -> list[dict[str, Any]]:
    """Runs under `folder` in the order of their paths; with `site` only those that it took part in, or that went on
    from a release in whose line it was.

    releases: versions made from the run; descendants: versions whose lineage goes back to one of them.
    """
    known = [] if releases is None else list_releases(releases)
    touched = {made.version for made in known if site in made.sites}
    touched |= set(_descendants(known, touched))
    sums = {made.sha256[NUMBERS] for made in known if made.version in touched}
    found = []
    for path in sorted(folder.rglob(CHECKPOINT)):
        state = load_checkpoint(path)
        origin = state.origin
        if not site or site in state.qualified or (origin is not None and origin.sha256 in sums):
            found.append(_told(state, str(path.parent.relative_to(folder)), site, known))
    return found


def _told(state: StudyState, folder: str, site: str, known: list[Release]) -> dict[str, Any]:
    fingerprint = state.protocol.fingerprint()
    own = [r.version for r in known if (r.study, r.protocol_fingerprint) == (state.study, fingerprint)]
    return {
        "study": state.study,
        "folder": folder,
        "fingerprint": fingerprint,
        "status": state.status(),
        "replaces": state.replaces,
        "went_on_from": None if state.origin is None else state.origin.model_dump(),
        "sites": {
            name: [sum(q.training_cases), q.tested]
            for name, q in sorted(state.qualified.items())
            if not site or name == site
        },
        "releases": own,
        "descendants": _descendants(known, set(own)),
    }


def rerun_study(study: Path, out: Path, *, without: tuple[str, ...], name: str, start: Path | None = None) -> Path:
    """study.yaml and protocol.yaml of the same study in a new folder; returns the former.

    start: the released model to go on from, where the old study went on from one.  InputError `site-unknown`; Refused
    `folder-not-empty`, `too-few-sites`, `start-unclear`, and `starts-from-affected` where that model, or one in its
    line, has learned from a site now left out.
    """
    state = load_checkpoint(study / CHECKPOINT)
    settings = parse_settings(StudySettings, (study / STUDY).read_text(encoding="utf-8"), source=STUDY)
    _require_possible(state, settings, out, without)
    _require_clean_start(state, start, without)
    out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "name": name or f"{settings.name}-again",
        "protocol": "protocol.yaml",
        "sites": [s for s in settings.sites if s not in without],
        "join_timeout_s": settings.join_timeout_s,
        "replaces": settings.name,
    }
    if start is not None:
        content["start"] = str(start.resolve())
    shutil.copyfile(study / settings.protocol, out / "protocol.yaml")
    beside = out / f".{STUDY}.new"
    beside.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    beside.replace(out / STUDY)
    return out / STUDY


def _require_possible(state: StudyState, settings: StudySettings, out: Path, without: tuple[str, ...]) -> None:
    unknown = sorted(set(without) - set(settings.sites))
    if unknown:
        raise InputError(
            "site-unknown",
            field="without",
            problem=f"The study expects no {', '.join(unknown)}.",
            fix=f"Its sites are {', '.join(settings.sites)}.",
        )
    if (out / STUDY).exists() or (out / CHECKPOINT).exists():
        raise Refused(
            "folder-not-empty",
            field="out",
            problem="The folder holds a study.",
            fix="Name a new folder; the old run stays as it is.",
            local=str(out),
        )
    left = len(settings.sites) - len(set(without))
    if left < state.protocol.federation.min_sites:
        raise Refused(
            "too-few-sites",
            field="federation.min_sites",
            problem=f"{left} site(s) are left; the protocol wants {state.protocol.federation.min_sites}.",
            fix="Keep more sites, or agree on another protocol.",
        )


def _require_clean_start(state: StudyState, start: Path | None, without: tuple[str, ...]) -> None:
    if (state.origin is None) != (start is None):
        raise Refused(
            "start-unclear",
            field="start",
            problem="Only a study that went on from a released model can be repeated from one, and must be.",
            fix="Name with --start a release that has not learned from what is left out; `fedmidline-study runs` tells.",
        )
    if start is None:
        return
    folder, version = version_of(start)
    line = _line(list_releases(folder.parent), version) if version else []
    learned = sorted({site for made in line for site in made.sites} & set(without))
    if learned:
        raise Refused(
            "starts-from-affected",
            field="start",
            problem=f"The line of v{version} has learned from {', '.join(learned)}.",
            fix="Repeat the first study of the line, release it, and start from that.",
        )


def _line(known: list[Release], version: int) -> list[Release]:
    """A version and all that it goes back to."""
    by_number = {made.version: made for made in known}
    found: list[Release] = []
    wanted: int | None = version
    while wanted is not None and wanted in by_number:
        found.append(by_number[wanted])
        wanted = by_number[wanted].parent
    return found


def _descendants(known: list[Release], own: set[int]) -> list[int]:
    """Versions are numbered in order, so one pass follows every line."""
    line = set(own)
    for made in known:
        if made.parent in line:
            line.add(made.version)
    return sorted(line - own)
