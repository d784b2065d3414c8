"""onboarding: the commands with which a hospital joins: init, convert, check, card; none opens a connection."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from client.disk import write_whole
from client.site import open_site
from common.command import say, screen

__all__ = ["COLUMNS", "AsJson", "SiteFile", "onboarding"]

onboarding = typer.Typer()

SiteFile = Annotated[Path, typer.Option("--site", help="the hospital's site.yaml")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")]
COLUMNS = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


@onboarding.command()
def init(
    folder: Annotated[Path, typer.Argument(help="new folder for site.yaml, manifest.csv and the cache")],
    name: Annotated[str, typer.Option(help="the site's name in the study: small letters, digits, hyphens")],
    protocol: Annotated[str, typer.Option(help="path of the study's protocol, from FOLDER")] = "protocol.yaml",
    dicom: Annotated[Path | None, typer.Option(help="find cases in DICOM files, any nesting")] = None,
    bids: Annotated[Path | None, typer.Option(help="find cases in a BIDS dataset")] = None,
    nifti: Annotated[
        Path | None, typer.Option(help="find cases in folders of NIfTI files, one folder per case")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="spreadsheet (CSV, XLSX) with patient_id, label, tissue_date ...")
    ] = None,
    key_list: Annotated[
        Path | None, typer.Option(help="where to write the list pseudonym - patient_id; else there is none")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a site file and a manifest, filled as far as images and spreadsheet tell.

    Patients get pseudonyms from the site's own salt, dates become intervals.  What a person must still decide is
    listed by pseudonym; then `fedmidline-site check`.

    Example: fedmidline-site init my-site --name st-elsewhere --dicom /data/dicom --sheet clinical.xlsx
    """
    from client.tasks.init_site import Sources, init_site

    report = init_site(folder, name=name, protocol=protocol, sources=Sources(dicom, bids, nifti, sheet, key_list))
    result = report.as_dict()
    table = Table("", "", title="New site", show_header=False)
    for key, value in result.items():
        told = value if key != "to_decide" else f"{len(value)} case(s)"
        table.add_row(key.replace("_", " "), str(told))
    say(result, table, as_json=as_json)
    if not as_json:
        for pseudonym, notes in result["to_decide"].items():
            screen.print(f"{pseudonym}: {'; '.join(notes)}", markup=False, highlight=False)


@onboarding.command()
def check(site: SiteFile, as_json: AsJson = False) -> None:
    """Read site file, protocol, manifest and the headers of every image; computes nothing, opens no connection.

    Exit code 2 when an eligible case could not be prepared as it is; the reasons and cures are listed.

    Example: fedmidline-site check --site site_configs/sites/tcga-example.yaml
    """
    from client.tasks.check_site import check_site
    from client.tasks.flow_diagram import flow_diagram

    with Progress(*COLUMNS, console=screen) as bars:
        bar = bars.add_task("cases", total=None)
        found = check_site(open_site(site), lambda done, of: bars.update(bar, completed=done, total=of))
    result = found.as_dict()
    result["flow"] = flow_diagram(result).splitlines()
    table = Table("", Column(overflow="fold"), title="Site check", show_header=False)
    for key in ("site", "protocol", "protocol_fingerprint", "reference_standard", "masks", "scanners",
                "scanners_of_the_images", "sequences", "estimate"):  # fmt: skip
        table.add_row(key.replace("_", " "), _words(result[key]))
    if not as_json:
        screen.print("\n".join(result["flow"]), markup=False, highlight=False, soft_wrap=True)
    say(result, table, as_json=as_json)
    if result["ethics_missing"]:
        screen.print(f"ethics: missing in site.yaml: {', '.join(result['ethics_missing'])}", style="yellow")
    for look in found.set_aside:
        screen.print(look.fault.explain() if look.fault else "", style="red", markup=False, highlight=False)
    if found.set_aside:
        raise typer.Exit(2)


@onboarding.command()
def card(
    site: SiteFile,
    out: Annotated[Path, typer.Option(help="the HTML file to write")] = Path("site_card.html"),
    as_json: AsJson = False,
) -> None:
    """Write one page for the ethics office: what leaves the hospital, what does not, counts that disclose nobody.

    Example: fedmidline-site card --site my-site/site.yaml --out site_card.html
    """
    from client.tasks.site_card import render_card

    page = render_card(open_site(site), today=datetime.now(UTC).date().isoformat())
    write_whole(out, page.encode(), field="out", mode=0o644)
    say({"card": str(out)}, f"card: {out}", as_json=as_json)


@onboarding.command()
def convert(
    dicom: Annotated[Path, typer.Argument(help="folder of DICOM files, any nesting, any mixture of studies")],
    out: Annotated[Path, typer.Argument(help="folder for the NIfTI images")],
    salt: Annotated[
        Path | None, typer.Option(help="folder that holds the site's salt (its cache); default: OUT")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert every series to NIfTI and say which sequence it is; needs no study, keeps no name and no date.

    Each series is read by two programs and kept only where they agree; what is not converted is listed with its
    reason and cure.  Pseudonyms come from the salt: give the site's cache to get the same ones as in the study.
    Exit code 2 when a series was quarantined.

    Example: fedmidline-site convert /data/dicom converted --json
    """
    from client.store.salt import site_salt
    from client.tasks.convert_folder import convert_folder

    with Progress(*COLUMNS, console=screen) as bars:
        bar = bars.add_task("series", total=None)
        report = convert_folder(
            dicom,
            out,
            salt=site_salt(salt or out),
            progress=lambda done, of: bars.update(bar, completed=done, total=of),
        )
    result = report.as_dict()
    names = ("patient", "study", "series", "number", "kind", "confidence", "status", "code")
    table = Table(*names, title="Series")
    for row in result["series"]:
        table.add_row(*(str(row[name]) for name in names))
    say(result, table, as_json=as_json)
    if not as_json:
        screen.print(f"files: {report.files}; in no series: {report.others}", markup=False, highlight=False)
    for outcome in report.outcomes:
        if outcome.status == "quarantined":
            told = f"{outcome.candidate.key}: {outcome.code}: {outcome.local}\n  fix:   {outcome.cure}"
            screen.print(told, style="red", markup=False, highlight=False)
    if any(outcome.status == "quarantined" for outcome in report.outcomes):
        raise typer.Exit(2)


def _words(value: Any, indent: str = "") -> str:
    """A mapping on lines of its own, one inside another further in."""
    if not isinstance(value, dict):
        return str(value)
    lines = []
    for key, inner in value.items():
        nested = isinstance(inner, dict) and any(isinstance(v, dict | list) for v in inner.values())
        told = "\n" + _words(inner, indent + "  ") if nested else _flat(inner)
        lines.append(f"{indent}{str(key).replace('_', ' ')}: {told}")
    return "\n".join(lines) or "none"


def _flat(value: Any) -> str:
    """On one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items()) or "none"
    return "; ".join(_flat(inner) for inner in value) if isinstance(value, list) else str(value)
