"""withdraw_commands: fedmidline-site withdraw | runs: what to do when a patient takes the consent back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from client.onboarding import AsJson, SiteFile
from client.site import open_site
from common.command import say, screen

__all__ = ["withdrawing"]

withdrawing = typer.Typer()


@withdrawing.command()
def withdraw(
    case: Annotated[str, typer.Argument(help="pseudonym, as in the manifest")],
    site: SiteFile,
    reason: Annotated[str, typer.Option(help="kept beside the manifest; write no name")] = "consent withdrawn",
    as_json: AsJson = False,
) -> None:
    """Take a case out of everything that comes, and list the runs that it has been in.

    Tell the coordinator study and fingerprint of those runs, not the case: `fedmidline-study runs --site` names the
    released versions that come from them, and `fedmidline-study rerun` repeats a run, which is then exactly the one that
    would have been without the case.

    Example: fedmidline-site withdraw case-0042 --site site.yaml
    """
    from client.tasks.withdraw_case import withdraw_case

    found = withdraw_case(open_site(site), case, reason=reason, when=datetime.now(UTC))
    result = {**asdict(found), "kept": [str(path) for path in found.kept]}
    say(result, _table(found.runs, f"{case} is withdrawn; it has been in"), as_json=as_json)
    for path in found.kept:
        screen.print(f"still in the cache: {path}", soft_wrap=True)


@withdrawing.command()
def runs(
    site: SiteFile,
    case: Annotated[str, typer.Option(help="only runs that used this pseudonym")] = "",
    as_json: AsJson = False,
) -> None:
    """Runs that the site's cases went into.

    Example: fedmidline-site runs --site site.yaml --case case-0042
    """
    from client.tasks.withdraw_case import runs_of

    found = runs_of(open_site(site), case)
    say({"case": case, "runs": found}, _table(found, "Runs"), as_json=as_json)


def _table(found: Any, title: str) -> Table:
    table = Table("study", "fingerprint", "used for", "training", "test", "first", "last", title=title)
    for run in found:
        table.add_row(
            run["study"],
            run["fingerprint"][:16],
            run.get("used_for", ""),
            str(run["training_cases"]),
            str(run["test_cases"]),
            run["first"],
            run["last"],
        )
    return table
