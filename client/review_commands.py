"""review_commands: `fedmidline-site review ...`: the queue of masks a radiologist corrects and accepts."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from client.review.states import ReviewCase
from client.site import open_site
from common.command import say, screen

__all__ = ["review"]

review = typer.Typer(no_args_is_help=True, help="The readers' queue: correct and accept masks. Stays in the hospital.")

SiteFile = Annotated[Path, typer.Option("--site", help="the hospital's site.yaml")]
CaseName = Annotated[str, typer.Argument(help="the case's pseudonym")]
ReaderName = Annotated[str, typer.Option("--reader", help="the reader's short name, e.g. R1")]
By = Annotated[str, typer.Option("--by", help="who decides, e.g. R1")]
Reason = Annotated[str, typer.Option("--reason", help="in a few words; no patient's name")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")]


class EditGrade(StrEnum):
    """How much of the automatic mask the reader changed, by own judgement."""

    none = "none"
    minor = "minor"
    major = "major"


@review.command("list")
def list_cases(
    site: SiteFile,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV on standard output")] = False,
    as_json: AsJson = False,
) -> None:
    """The queue, most urgent first: flagged cases, then uncertain ones, then by lot.

    Example: fedmidline-site review list --site site.yaml --csv
    """
    from client.tasks.review_case import listing

    rows = listing(open_site(site))
    if as_csv:
        flat = [{**row, "flags": "; ".join(row["flags"]), "readings": len(row["readings"])} for row in rows]
        writer = csv.DictWriter(sys.stdout, list(flat[0]) if flat else ["case"])
        writer.writeheader()
        writer.writerows(flat)
        return
    longest = max((len(row["case"]) for row in rows), default=4)
    case_column = Column("case", no_wrap=True, min_width=longest)  # it is typed into the next command
    table = Table(case_column, "state", "ml", "parts", "days", "reader", "flags", "last reading", title="Review")
    for row in rows:
        last = row["readings"][-1] if row["readings"] else None
        told = f"{last['edit']}, Dice {last['dice']:.3f}, {last['minutes']:g} min" if last else ""
        state = row["state"] + (", second reader wanted" if row["second_reader_wanted"] else "")
        numbers = (f"{row['automatic_ml']:g}", str(row["parts"]), str(row["days"]))
        table.add_row(row["case"], state, *numbers, row["reader"], "; ".join(row["flags"]), told)
    say({"counts": Counter(row["state"] for row in rows), "cases": rows}, table, as_json=as_json)


@review.command("open")
def open_one(
    case: CaseName,
    site: SiteFile,
    reader: ReaderName,
    start: Annotated[bool, typer.Option("--launch/--no-launch", help="start ITK-SNAP or 3D Slicer when found")] = True,
    as_json: AsJson = False,
) -> None:
    """Take a case and open it in ITK-SNAP or 3D Slicer; save the mask in place, then `review done`.

    Example: fedmidline-site review open case-0001 --site site.yaml --reader R1
    """
    import shlex

    from client.review.viewers import launch
    from client.tasks.review_case import open_case

    opened = open_case(open_site(site), case, reader)
    started = launch(opened.commands) if start else ""
    commands = {name: shlex.join(command) for name, command in opened.commands.items()}
    result = {"case": case, "state": opened.case.state, "mask": str(opened.mask), "started": started, **commands}
    say(result, "\n".join([f"mask to edit: {opened.mask}", *commands.values()]), as_json=as_json)


@review.command("export")
def export_cases(
    site: SiteFile,
    reader: ReaderName,
    batch: Annotated[int, typer.Option(min=1, max=500, help="how many cases")] = 10,
    out: Annotated[Path, typer.Option(help="folder for the sealed bundle")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a sealed bundle for a reader's workstation: images, masks to edit, a table to fill in.

    Example: fedmidline-site review export --site site.yaml --reader R1 --batch 5 --out /media/stick
    """
    from client.tasks.review_bundle import export_batch

    exported = export_batch(open_site(site), batch=batch, reader=reader, folder=out)
    result = {"bundle": str(exported.path), "cases": list(exported.cases)}
    say(result, f"{exported.path}: {', '.join(exported.cases)}", as_json=as_json)


@review.command("import")
def import_cases(
    bundle: Annotated[Path, typer.Argument(help="the returned .tgz")], site: SiteFile, as_json: AsJson = False
) -> None:
    """Take back a reader's bundle; every case is reviewed, left open, or set aside with its reason.

    Example: fedmidline-site review import review-20260101.tgz --site site.yaml
    """
    from client.tasks.review_bundle import import_bundle

    returned = import_bundle(open_site(site), bundle)
    table = Table("case", "result", "reason", "flags", title="Import")
    for case in returned:
        table.add_row(case.pseudonym, case.status, case.reason, "; ".join(case.flags))
    cases = [{"case": c.pseudonym, "status": c.status, "reason": c.reason, "flags": list(c.flags)} for c in returned]
    say({"counts": Counter(c.status for c in returned), "cases": cases}, table, as_json=as_json)
    if any(case.status == "set aside" for case in returned):
        raise typer.Exit(2)


@review.command()
def page(
    site: SiteFile,
    reader: ReaderName,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open it in this computer's browser")] = True,
) -> None:
    """Correct and accept masks in the browser of this computer; the address works here and nowhere else.

    Example: fedmidline-site review page --site site.yaml --reader R1
    """
    import webbrowser

    from client.review.events import Opened, event_of
    from client.review.page import serve_page
    from client.tasks.review_page import ReaderDesk

    event_of(Opened, reader=reader)  # a name that cannot be logged is told now, not after the first case
    opened = open_site(site)

    def ready(address: str, _server: object) -> None:
        print(address, flush=True)  # noqa: T201  # the one line a script waits for
        screen.print("Close with Ctrl-C. Keep the address to yourself: it opens the cases.")
        if browser:
            webbrowser.open(address)

    try:
        serve_page(ReaderDesk(opened, reader), port=port, ready=ready)
    except KeyboardInterrupt:
        screen.print("closed; what was saved is kept")


@review.command()
def done(
    case: CaseName,
    site: SiteFile,
    reader: ReaderName,
    edit: Annotated[EditGrade, typer.Option(help="how much was changed; an untouched mask needs `none`")],
    minutes: Annotated[float, typer.Option(min=0, max=600, help="time it took")],
    note: Annotated[str, typer.Option(help="in a few words; no patient's name")] = "",
    mask: Annotated[Path | None, typer.Option(help="the edited mask; default: the copy `open` made")] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="the mask is right although it fits the other side")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Finish a case: the mask is checked, compared with the automatic one and kept.

    Example: fedmidline-site review done case-0001 --site site.yaml --reader R1 --edit minor --minutes 6
    """
    from client.tasks.review_case import finish_case

    finished = finish_case(
        open_site(site), case, reader=reader, edit=edit.value, minutes=minutes, note=note, mask=mask, confirmed=confirm
    )
    _say_reading(finished, as_json)


@review.command("export-dicom")
def export_one_dicom(
    case: CaseName,
    site: SiteFile,
    out: Annotated[Path, typer.Option(help="the .dcm to write; it names the patient, as the series itself does")],
    as_json: AsJson = False,
) -> None:
    """Write a case's mask as DICOM SEG on its native T1CE series, for the hospital's own viewer.

    Example: fedmidline-site review export-dicom case-0001 --site site.yaml --out case-0001.dcm
    """
    from client.tasks.review_dicom import export_dicom

    path = export_dicom(open_site(site), case, out)
    say({"case": case, "written": str(path)}, str(path), as_json=as_json)


@review.command("import-dicom")
def import_one_dicom(
    case: CaseName,
    file: Annotated[Path, typer.Argument(help="DICOM SEG or RTSTRUCT drawn on the case's T1CE series")],
    site: SiteFile,
    reader: ReaderName,
    edit: Annotated[EditGrade, typer.Option(help="how much was changed; an untouched mask needs `none`")],
    minutes: Annotated[float, typer.Option(min=0, max=600, help="time it took")],
    note: Annotated[str, typer.Option(help="in a few words; no patient's name")] = "",
    region: Annotated[str, typer.Option(help="name of the RTSTRUCT's region, where it holds several")] = "",
    as_json: AsJson = False,
) -> None:
    """Finish a case with a DICOM SEG or RTSTRUCT from the hospital's own viewer.

    Example: fedmidline-site review import-dicom case-0001 edited.dcm --site site.yaml --reader R1 --edit minor --minutes 6
    """
    from client.tasks.review_dicom import import_dicom

    finished = import_dicom(
        open_site(site), case, file, reader=reader, edit=edit.value, minutes=minutes, note=note, region=region
    )
    _say_reading(finished, as_json)


@review.command()
def accept(
    case: CaseName,
    site: SiteFile,
    by: By,
    reading: Annotated[int, typer.Option(min=1, max=2, help="whose mask, where two readers read")] = 1,
    as_json: AsJson = False,
) -> None:
    """Accept a reviewed mask; `fedmidline-site prepare` then measures its features.

    Example: fedmidline-site review accept case-0001 --site site.yaml --by R1
    """
    from client.tasks.review_case import accept_case

    _say_state(accept_case(open_site(site), case, by=by, reading=reading), as_json)


@review.command()
def reject(case: CaseName, site: SiteFile, by: By, reason: Reason, as_json: AsJson = False) -> None:
    """Keep a case out of the study, with the reason (not assessable, artefact, no tumour, ...).

    Example: fedmidline-site review reject case-0002 --site site.yaml --by R1 --reason "motion artefact"
    """
    from client.tasks.review_case import reject_case

    _say_state(reject_case(open_site(site), case, by=by, reason=reason), as_json)


@review.command("send-back")
def send_back_one(case: CaseName, site: SiteFile, by: By, reason: Reason, as_json: AsJson = False) -> None:
    """Let a reviewed case be read again.

    Example: fedmidline-site review send-back case-0001 --site site.yaml --by R2 --reason "oedema missing"
    """
    from client.tasks.review_case import send_back

    _say_state(send_back(open_site(site), case, by=by, reason=reason), as_json)


@review.command("put-back")
def put_back_one(case: CaseName, site: SiteFile, reader: ReaderName, as_json: AsJson = False) -> None:
    """Leave an opened case to others, unread.

    Example: fedmidline-site review put-back case-0001 --site site.yaml --reader R1
    """
    from client.tasks.review_case import put_back

    _say_state(put_back(open_site(site), case, reader=reader), as_json)


@review.command()
def reopen(case: CaseName, site: SiteFile, by: By, reason: Reason, as_json: AsJson = False) -> None:
    """Begin an accepted or rejected case again; its features no longer count.

    Example: fedmidline-site review reopen case-0001 --site site.yaml --by R1 --reason "wrong side"
    """
    from client.tasks.review_case import reopen_case

    _say_state(reopen_case(open_site(site), case, by=by, reason=reason), as_json)


@review.command()
def agreement(site: SiteFile, as_json: AsJson = False) -> None:
    """How far two readers agree on the cases that both read: Dice, HD95, volumes and their ICC(2,1).

    Example: fedmidline-site review agreement --site site.yaml --json
    """
    from client.tasks.reader_agreement import reader_agreement

    found = reader_agreement(open_site(site)).as_dict()
    table = Table("case", "readers", "Dice", "HD95 mm", "ml", "state", title="Two readers")
    for row in found["cases"]:
        volumes = " / ".join(f"{volume:.1f}" for volume in row["volumes_ml"])
        numbers = (str(row["dice"]), str(row["hd95_mm"]), volumes)
        table.add_row(row["case"], " / ".join(row["readers"]), *numbers, row["state"])
    say(found, table, as_json=as_json)
    if not as_json:
        told = f"read twice: {found['read_twice']} of {found['drawn_for_two_readers']} drawn"
        screen.print(f"{told}; mean Dice {found['dice_mean']}, ICC(2,1) of the volume {found['volume_icc']}")


@review.command()
def history(
    site: SiteFile, case: Annotated[str, typer.Option(help="only this case")] = "", as_json: AsJson = False
) -> None:
    """The append-only log, its chain of hashes verified.

    Example: fedmidline-site review history --site site.yaml --case case-0001
    """
    from client.tasks.case_keys import open_queue

    lines = [line for line in open_queue(open_site(site)).history() if case in ("", line.pseudonym)]
    table = Table("", "when", "case", "what", title="Review log")
    for line in lines:
        table.add_row(str(line.number), line.at, line.pseudonym, line.event.kind)
    events: list[dict[str, Any]] = [
        {"number": n.number, "at": n.at, "case": n.pseudonym, **n.event.model_dump(mode="json")} for n in lines
    ]
    say({"verified": True, "events": events}, table, as_json=as_json)


def _as_dict(case: ReviewCase) -> dict[str, Any]:
    return {"case": case.pseudonym, "state": case.state, "second_reader_wanted": case.waits_for_second}


def _say_state(case: ReviewCase, as_json: bool) -> None:
    say({**_as_dict(case), "reason": case.reason}, f"{case.pseudonym}: {case.state}", as_json=as_json)
    if case.state == "accepted" and not as_json:
        screen.print("`fedmidline-site prepare` measures its features.")


def _say_reading(finished: ReviewCase, as_json: bool) -> None:
    reading = finished.readings[-1]
    distance = "not defined" if reading.hd95_mm is None else f"{reading.hd95_mm:.1f} mm"
    told = (
        f"{finished.pseudonym}: Dice {reading.dice:.3f}, HD95 {distance}, volume {reading.volume_ml:.1f} ml "
        f"({reading.volume_change_ml:+.1f}), {reading.added_voxels} voxels added, {reading.removed_voxels} removed"
    )
    lines = [told, *(f"flag: {flag}" for flag in reading.flags)]
    if finished.waits_for_second:
        lines.append("This case was drawn for a second reader, who opens it next.")
    if len(finished.readings) == 2:
        lines.append("Both have read it: `review accept` with --reading 1 or --reading 2 takes one of the masks.")
    say({**_as_dict(finished), **reading.model_dump(mode="json", exclude={"kind"})}, "\n".join(lines), as_json=as_json)
