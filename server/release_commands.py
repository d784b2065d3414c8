"""release_commands: fedmidline-study release | runs | rerun: versions of a consortium's model, and what to do when a
case or a site withdraws.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.command import say, screen
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.release_checks import Check, check_release
from server.releases import (
    Release,
    add_release,
    current_version,
    list_releases,
    moves_of,
    read_release,
    require_finished,
    roll_back,
)
from server.withdrawal import affected_by, rerun_study

__all__ = ["lineage", "release"]

release = typer.Typer(no_args_is_help=True, help="Numbered versions of the finished model: lineage, and the way back.")
lineage = typer.Typer()

Releases = Annotated[Path, typer.Option("--releases", help="the consortium's folder of releases")]
Study = Annotated[Path, typer.Option("--study", help="the study's folder, with study.yaml and its checkpoint")]
Reason = Annotated[str, typer.Option(help="why, in a sentence; kept for good")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")]


@release.command()
def check(study: Study, as_json: AsJson = False) -> None:
    """What a release of the study's model would tell of single cases; nothing is written.

    Exit code 0 whatever is found: `release add` is what refuses.  Refused `study-not-finished`.

    Example: fedmidline-study release check --study runs/replay/study
    """
    state = load_checkpoint(study / CHECKPOINT)
    require_finished(state)
    checks = check_release(state)
    say({"checks": [c.model_dump() for c in checks]}, _verdicts(checks, {}), as_json=as_json)


@release.command()
def add(
    study: Study,
    releases: Releases,
    reason: Reason,
    accept: Annotated[
        list[str] | None, typer.Option(help="a check of disclosure that may fail, for that reason; may be repeated")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the study's model the next version and put it in force.

    Structural checks of disclosure come first; one that fails and is not accepted refuses (exit code 3).

    Example: fedmidline-study release add --study runs/replay/study --releases releases --accept degrees-of-freedom --accept memorised-cases --reason "stays inside the consortium"
    """
    state = load_checkpoint(study / CHECKPOINT)
    made = add_release(releases, state, reason=reason, when=datetime.now(UTC), accept=tuple(accept or ()))
    say(made.model_dump(mode="json"), _verdicts(made.checks, made.accepted), as_json=as_json)
    screen.print(f"v{made.version} of study {made.study} is in force", soft_wrap=True)


@release.command(name="list")
def list_command(releases: Releases, as_json: AsJson = False) -> None:
    """All versions, oldest first, and which is in force.

    Example: fedmidline-study release list --releases releases
    """
    known = list_releases(releases)
    now = current_version(releases) if known else None
    table = Table("version", "in force", "parent", "study", "made", "sites", "cases", "test AUC", "reason")
    for r in known:
        table.add_row(
            f"v{r.version}",
            "yes" if r.version == now else "",
            "" if r.parent is None else f"v{r.parent}",
            r.study,
            r.made[:10],
            str(len(r.sites)),
            str(sum(n for n, _ in r.sites.values())),
            _auc(r),
            r.reason,
        )
    moves = [move.model_dump() for move in moves_of(releases)]
    result = {"current": now, "versions": [r.model_dump(mode="json") for r in known], "moves": moves}
    say(result, table, as_json=as_json)


@release.command()
def show(
    releases: Releases,
    version: Annotated[int | None, typer.Argument(help="number; the one in force where it is left out")] = None,
    as_json: AsJson = False,
) -> None:
    """One version in full, its files compared with their sums.

    Example: fedmidline-study release show 2 --releases releases
    """
    found = read_release(releases, current_version(releases) if version is None else version)
    table = Table("", "", title=f"v{found.version}", show_header=False)
    for key, value in found.model_dump(mode="json").items():
        table.add_row(key, str(value))
    say(found.model_dump(mode="json"), table, as_json=as_json)


@release.command()
def rollback(
    releases: Releases,
    reason: Reason,
    to: Annotated[int | None, typer.Option(help="version; else the one in force before")] = None,
    as_json: AsJson = False,
) -> None:
    """Put an earlier version in force again; nothing is deleted.

    Example: fedmidline-study release rollback --releases releases --to 1 --reason "v2 calls too many cases altered"
    """
    move = roll_back(releases, to=to, reason=reason, when=datetime.now(UTC))
    say(move.model_dump(), f"v{move.version} is in force", as_json=as_json)


@lineage.command()
def runs(
    folder: Annotated[Path, typer.Option("--in", help="folder under which the studies' folders lie")],
    site: Annotated[str, typer.Option(help="only runs that this site took part in")] = "",
    releases: Annotated[Path | None, typer.Option(help="folder of releases, to name those that are affected")] = None,
    as_json: AsJson = False,
) -> None:
    """Which runs a site took part in, with how many cases, and which released versions come from them.

    A hospital that withdraws a case names study and fingerprint (fedmidline-site withdraw); the server knows no case.

    Example: fedmidline-study runs --in runs --site aachen --releases releases
    """
    found = affected_by(folder, site=site, releases=releases)
    table = Table("study", "went on from", "fingerprint", "status", "training + test cases", "releases", "descendants")
    for run in found:
        table.add_row(
            run["study"],
            run["went_on_from"]["study"] if run["went_on_from"] else "",
            run["fingerprint"][:16],
            run["status"],
            ", ".join(f"{name} {n} + {'?' if m is None else m}" for name, (n, m) in run["sites"].items()),
            ", ".join(f"v{v}" for v in run["releases"]),
            ", ".join(f"v{v}" for v in run["descendants"]),
        )
    result: dict[str, Any] = {"site": site, "runs": found}
    say(result, table, as_json=as_json)


@lineage.command()
def rerun(
    study: Study,
    out: Annotated[Path, typer.Option(help="the new study's folder")],
    without: Annotated[list[str] | None, typer.Option(help="a site that has left; may be repeated")] = None,
    name: Annotated[str, typer.Option(help="of the new study; else the old one's with -again")] = "",
    start: Annotated[
        Path | None, typer.Option(help="the release to go on from, where the old study went on from one")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the same study anew, to be run as any other: without sites that left, without cases that were withdrawn.

    A case that its hospital has withdrawn (fedmidline-site withdraw) takes part in nothing from then on, so the new run
    is exactly the one that would have been without it.

    Example: fedmidline-study rerun --study runs/trial --out runs/trial-2 --without cork
    """
    path = rerun_study(study, out, without=tuple(without or ()), name=name, start=start)
    say({"study": str(path)}, f"written: {path}; run it as any study", as_json=as_json)


def _verdicts(checks: tuple[Check, ...], accepted: dict[str, str]) -> Table:
    table = Table("check", "verdict", "found", "wanted")
    for one in checks:
        verdict = "passed" if one.passed else "accepted" if one.name in accepted else "FAILED"
        table.add_row(one.name, verdict, one.found, one.limit)
    return table


def _auc(made: Release) -> str:
    test = made.metrics.get("test")
    if not test:
        return ""
    exact = test.get("exact_auc")
    return f"{exact:.3f}" if exact is not None else f"{test['auc']:.3f} ± {test['half_width']:.3f}"
