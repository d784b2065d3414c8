"""egress_commands: fedmidline-site egress and budget, for the data-protection officer: what left, by which rules, and
what of the privacy budget it cost; unchanged or not.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from client.onboarding import AsJson, SiteFile
from client.site import open_site
from client.store.identity import site_identity
from client.tasks.open_budget import open_budget
from client.tasks.open_gate import open_audit_log, rules_of
from common.command import say, screen
from common.errors import InputError
from common.privacy.signing import identity_of

__all__ = ["egress_commands"]

egress_commands = typer.Typer()


@egress_commands.command()
def egress(
    site: SiteFile,
    verify: Annotated[bool, typer.Option("--verify", help="only say whether the log is as it was written")] = False,
    known: Annotated[str, typer.Option(help="a hash noted down earlier; it must still be in the log")] = "",
    as_json: AsJson = False,
) -> None:
    """Show everything that left this hospital, the rules in force, and whether the log is as it was written.

    Note down the newest hash from time to time, on paper: with --known it proves that nothing before it was changed.
    Exit code 2 for a log that was changed, cut or reordered; the first such line is named.

    Example: fedmidline-site egress --site my-site/site.yaml --verify
    """
    opened = open_site(site)
    report = open_audit_log(opened, lambda: datetime.now(UTC)).verify(known)
    rules = rules_of(opened)
    result: dict[str, Any] = {
        "site": opened.settings.name,
        "whole": report.fault is None,
        "entries": len(report.lines),
        "newest_hash": report.newest,
        "torn_bytes": report.torn,
        "rules_version": rules.version(),
        "rules": {**asdict(rules), "allow": list(rules.allow)},
    }
    if report.fault is not None:
        result["fault"] = asdict(report.fault)
    if not verify:
        result["log"] = list(report.lines)
        if not as_json:
            screen.print(_rules_table(result["rules"]), _log_table(result["log"]))
    verdict = f"{len(report.lines)} entries, newest hash {report.newest}"
    say(result, verdict, as_json=as_json)
    if report.torn:
        screen.print(
            f"{report.torn} bytes of an unfinished line at the end: nothing left with them; the next reply mends it"
        )
    if report.fault is not None:
        raise InputError(
            "audit-log-broken",
            site=opened.settings.name,
            field=f"line {report.fault.line}",
            problem=f"The log is not as it was written: {report.fault.why}.",
            fix="Keep the file as evidence, find out who changed it, then move it and its .head file aside together.",
        )


@egress_commands.command()
def identity(site: SiteFile, as_json: AsJson = False) -> None:
    """Print the identity with which this site signs its keys; drawn at the first call, its secret half stays here.

    The study's protocol names it under federation.site_keys.  Read it out over another channel than the server's.

    Example: fedmidline-site identity --site my-site/site.yaml
    """
    settings = open_site(site).settings
    found = identity_of(site_identity(settings.cache, settings.name))
    say({"site": settings.name, "identity": found}, f"{settings.name}: {found}", as_json=as_json)


@egress_commands.command()
def budget(site: SiteFile, as_json: AsJson = False) -> None:
    """Show what differential privacy has been spent on this site's cases, by which studies, and what is left.

    epsilon is what all studies so far tell of any one case, at most, at the given delta; the prv accountant is closer, rdp
    quicker.  Zero is nothing; above about 10 the promise is weak.  Only replies of protocols with privacy.record_level
    are counted: docs/privacy.md says what else a study is told.
    Exit code 2 for a ledger that was changed, cut or reordered; the first such line is named.

    Example: fedmidline-site budget --site my-site/site.yaml
    """
    opened = open_site(site)
    report = open_budget(opened, lambda: datetime.now(UTC)).report()
    spent = [line for line in report.lines if line["event"] == "spent"]
    result: dict[str, Any] = {
        "site": opened.settings.name,
        "whole": report.fault is None,
        "limit": report.limit.epsilon,
        "delta": report.limit.delta,
        # JSON has no infinity: null for an epsilon without a bound.
        "epsilon": {name: value if math.isfinite(value) else None for name, value in report.epsilon.items()},
        "spent": spent,
    }
    if not as_json:
        screen.print(_spent_table(spent))
    best = min(report.epsilon.values())
    verdict = f"epsilon {best:.2f} of {report.limit.epsilon:g} spent (delta {report.limit.delta:g})"
    say(result, verdict, as_json=as_json)
    if report.fault is not None:
        raise InputError(
            "privacy-ledger-broken",
            site=opened.settings.name,
            field=f"line {report.fault.line}",
            problem=f"The ledger is not as it was written: {report.fault.why}.",
            fix="Find out who changed it, and restore it and its .head file from a backup together.",
        )


def _spent_table(lines: list[dict[str, Any]]) -> Table:
    table = Table("", "time", "study", "answer", "round", "how", "epsilon so far", title="What was spent")
    for line in lines:
        mechanism = line["mechanism"]
        if "picks" in mechanism:
            how = f"{mechanism['picks']} picks at epsilon {mechanism['epsilon']:g}"
        else:
            how = f"noise {mechanism['noise_multiplier']:.3f}, rate {mechanism['sampling_rate']:g}, steps {mechanism['steps']}"
        table.add_row(
            str(line["number"]), line["at"], line["study"], line["action"], str(line["round"]), how, f"{line['epsilon']:.2f}"
        )  # fmt: skip
    return table


def _rules_table(rules: dict[str, Any]) -> Table:
    table = Table("rule", "in force", title="The strictest of site and protocol")
    for name, value in rules.items():
        table.add_row(name.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
    return table


def _log_table(lines: list[dict[str, Any]]) -> Table:
    table = Table("", "time", "message", "study", "round", "left", "bytes", "SHA-256", title="What left this hospital")
    for line in lines:
        answer = "masked, part of a sum" if line.get("kind") == "MaskedReply" else "answer"
        told = f"refused: {line['code']}" if line.get("code") else answer
        left = told if line["event"] == "left" else "nothing: an unfinished line was taken off"
        table.add_row(
            str(line["number"]), line["at"], line.get("action", ""), line.get("study", ""),
            str(line.get("round") or ""), left, f"{line['bytes']:,}", line["digest"][:12],
        )  # fmt: skip
    return table
