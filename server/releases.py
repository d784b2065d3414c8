"""releases: a consortium's finished models as numbered versions with their lineage, and the way back (METHOD R59).

    releases/
      v0001/  model.safetensors  model.json  protocol.json  release.json
      v0002/  ...
      current.json                which version is in force, and every move that made it so

A version is written beside and renamed, and never changes again; what is in force is one small file, replaced as a
whole.  A crash between the two leaves a version that is not in force; the same command puts it in force.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import InputError, Refused
from common.messages.model import ModelState
from common.messages.model_files import ABOUT, NUMBERS, from_files, to_files
from server.release_checks import CHECKS, Check, check_release
from server.reporting.evaluation import server_view
from server.reporting.model_files import about_model
from server.state import Origin, StudyState

__all__ = [
    "Move",
    "Release",
    "add_release",
    "current_version",
    "list_releases",
    "read_model",
    "read_release",
    "require_finished",
    "roll_back",
    "version_of",
]

RELEASE, PROTOCOL, CURRENT = "release.json", "protocol.json", "current.json"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Release(_Value):
    """One version.

    parent: the version that its study went on from; None for a study from the seed's first weights.
    origin: the same by study and fingerprint, also where it came from another folder.
    sites: of every site that took part, its training and test cases (None: withheld); excluded: the others and why.
    metrics: what the server knows without a score (server/reporting/evaluation.py); sha256: of every other file.
    checks: of disclosure (server/release_checks.py), none in versions from before there were any; accepted: which of
        them failed and was accepted, and why.
    """

    version: int
    parent: int | None
    origin: Origin | None
    study: str
    replaces: str
    status: str
    protocol_name: str
    protocol_fingerprint: str
    feature_fingerprint: str
    sites: dict[str, tuple[int, int | None]]
    excluded: dict[str, str]
    rounds: int
    metrics: dict[str, Any]
    sha256: dict[str, str]
    reason: str
    made: str
    software: str
    checks: tuple[Check, ...] = ()
    accepted: dict[str, str] = {}
    research_use_only: bool = True


class Move(_Value):
    """A version put in force."""

    version: int
    reason: str
    when: str


def add_release(
    folder: Path, state: StudyState, *, reason: str, when: datetime, accept: Collection[str] = ()
) -> Release:
    """The study's model as the next version, in force at once; the same study's model twice is one version.

    accept: checks of disclosure that may fail, for `reason`.  Refused `study-not-finished`, `release-checks-failed`;
    InputError `check-unknown`.
    """
    require_finished(state)
    checks = check_release(state)
    _require_safe(checks, accept)
    files = {
        **to_files(state.model(), about_model(state)),
        PROTOCOL: json.dumps(state.protocol.model_dump(mode="json"), indent=1).encode(),
    }
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    known = list_releases(folder)
    same = [r for r in known if r.study == state.study and r.sha256 == sums]
    accepted = {check.name: reason for check in checks if not check.passed}
    release = same[0] if same else _describe(state, known, sums, reason, when, checks, accepted)
    if not same:
        _write_version(folder, release, files)
    _move(folder, Move(version=release.version, reason=reason, when=when.isoformat(timespec="seconds")))
    return release


def require_finished(state: StudyState) -> None:
    """Refused `study-not-finished`."""
    if not state.finished:
        raise Refused(
            "study-not-finished",
            field="status",
            problem="The study has not reached its end.",
            fix="Resume it first; `fedmidline-study status` tells where it stands.",
        )


def list_releases(folder: Path) -> list[Release]:
    """All versions, oldest first; none where there is no folder yet."""
    return [_read(path) for path in sorted(folder.glob("v[0-9][0-9][0-9][0-9]"))]


def read_release(folder: Path, version: int) -> Release:
    """One version, each of its files compared with its sum.

    InputError `release-unknown`, `release-damaged`.
    """
    path = _path(folder, version)
    if not path.is_dir():
        raise InputError(
            "release-unknown",
            field=f"v{version}",
            problem="There is no such version.",
            fix="`fedmidline-study release list` shows them.",
            local=str(path),
        )
    release = _read(path)
    broken = [name for name, wanted in release.sha256.items() if _sum(path / name) != wanted]
    if broken:
        raise _damaged(path, ", ".join(broken))
    return release


def current_version(folder: Path) -> int:
    """The version in force; InputError `release-unknown` before the first."""
    moves = moves_of(folder)
    if not moves:
        raise InputError(
            "release-unknown",
            field="current",
            problem="No version is in force.",
            fix="Add one: fedmidline-study release add.",
            local=str(folder),
        )
    return moves[-1].version


def moves_of(folder: Path) -> list[Move]:
    """Every version that was put in force, oldest first."""
    path = folder / CURRENT
    if not path.exists():
        return []
    try:
        return [Move.model_validate(move) for move in json.loads(path.read_text(encoding="utf-8"))["moves"]]
    except (ValueError, KeyError, ValidationError) as error:
        raise _damaged(path, f"{type(error).__name__}") from None


def roll_back(folder: Path, *, to: int | None, reason: str, when: datetime) -> Move:
    """Put an earlier version in force again: `to`, or the one in force before the present one.

    Nothing is deleted.  Refused `nothing-to-roll-back-to` where no other was in force; errors as `read_release`.
    """
    now = current_version(folder)
    earlier = [move.version for move in moves_of(folder) if move.version != now]
    wanted = to if to is not None else (earlier[-1] if earlier else now)
    if wanted == now:
        raise Refused(
            "nothing-to-roll-back-to",
            field=f"v{wanted}",
            problem="This version is in force, and no other was before.",
            fix="Name another with --to; `fedmidline-study release list` shows them.",
        )
    read_release(folder, wanted)
    move = Move(version=wanted, reason=reason, when=when.isoformat(timespec="seconds"))
    _move(folder, move)
    return move


def version_of(path: Path) -> tuple[Path, int]:
    """The folder of a model that a study may start from, and its version: a version's folder, a folder of releases
    (then the one in force), or any folder with the two files of a model (version 0).
    """
    if (path / CURRENT).exists():
        version = current_version(path)
        read_release(path, version)
        return _path(path, version), version
    if (path / RELEASE).exists():
        return path, read_release(path.parent, _read(path).version).version
    return path, 0


def read_model(path: Path, *, field: str) -> tuple[ModelState, dict[str, Any], Origin]:
    """The model there (as `version_of` finds it), what stands beside it, and where it is from.

    field: where the path was named.  InputError `model-unreadable`, `model-incomplete`, and those of a damaged release.
    """
    folder, version = version_of(path)
    try:
        numbers, text = (folder / NUMBERS).read_bytes(), (folder / ABOUT).read_bytes()
    except OSError as error:
        raise InputError(
            "model-unreadable",
            field=field,
            problem="The released model cannot be read.",
            fix="Name a version's folder, a folder of releases, or a folder with model.safetensors and model.json.",
            local=f"{folder}: {type(error).__name__}",
        ) from None
    model, about = from_files(numbers, text, local=str(folder))
    digest = hashlib.sha256(numbers).hexdigest()
    return model, about, Origin(study=str(about.get("study", "")), version=version, sha256=digest)


def _require_safe(checks: tuple[Check, ...], accept: Collection[str]) -> None:
    unknown = sorted(set(accept) - set(CHECKS))
    if unknown:
        raise InputError(
            "check-unknown",
            field=", ".join(unknown),
            problem="There is no such check of a release.",
            fix=f"The checks are {', '.join(CHECKS)}.",
        )
    failed = [check for check in checks if not check.passed and check.name not in accept]
    if failed:
        raise Refused(
            "release-checks-failed",
            field=", ".join(check.name for check in failed),
            problem=" ".join(f"{check.name}: {check.found} (wanted: {check.limit})." for check in failed),
            fix="Train with fewer parameters, more cases or noise; or accept each by name with a reason: "
            + " ".join(f"--accept {check.name}" for check in failed),
        )


def _describe(
    state: StudyState,
    known: list[Release],
    sums: dict[str, str],
    reason: str,
    when: datetime,
    checks: tuple[Check, ...],
    accepted: dict[str, str],
) -> Release:
    origin, protocol = state.origin, state.protocol
    parents = [r.version for r in known if origin is not None and r.sha256[NUMBERS] == origin.sha256]
    return Release(
        version=max((r.version for r in known), default=0) + 1,
        parent=parents[0] if parents else None,
        origin=origin,
        study=state.study,
        replaces=state.replaces,
        status=state.status(),
        protocol_name=protocol.name,
        protocol_fingerprint=protocol.fingerprint(),
        feature_fingerprint=protocol.feature_fingerprint(),
        sites={name: (sum(q.training_cases), q.tested) for name, q in sorted(state.qualified.items())},
        excluded=dict(sorted(state.excluded.items())),
        rounds=state.rounds_done,
        metrics=json.loads(json.dumps(server_view(state))),
        sha256=sums,
        reason=reason,
        made=when.isoformat(timespec="seconds"),
        software=installed("fedmidline"),
        checks=checks,
        accepted=accepted,
    )


def _write_version(folder: Path, release: Release, files: dict[str, bytes]) -> None:
    path = _path(folder, release.version)
    beside = path.with_name(f".{path.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, data in {**files, RELEASE: release.model_dump_json(indent=1).encode()}.items():
        (beside / name).write_bytes(data)
    beside.rename(path)


def _move(folder: Path, move: Move) -> None:
    moves = moves_of(folder)
    if moves and moves[-1].version == move.version:
        return
    text = json.dumps({"moves": [m.model_dump() for m in (*moves, move)]}, indent=1)
    beside = folder / f".{CURRENT}.new"
    beside.write_text(text, encoding="utf-8")
    beside.replace(folder / CURRENT)


def _path(folder: Path, version: int) -> Path:
    return folder / f"v{version:04d}"


def _read(path: Path) -> Release:
    try:
        return Release.model_validate_json((path / RELEASE).read_bytes())
    except (OSError, ValidationError) as error:
        raise _damaged(path, f"{RELEASE}: {type(error).__name__}") from None


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        "release-damaged",
        field=what[:80],
        problem="A file of the releases is missing or is not the one that was released.",
        fix="Restore the folder from a backup, or roll back to another version.",
        local=str(path),
    )
