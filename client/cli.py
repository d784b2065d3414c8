"""cli: the command fedmidline-site, for the hospital: join (onboarding.py), prepare cases, measure one image."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from client.disk import write_whole
from client.egress_commands import egress_commands
from client.ingest.table import TableSource, read_mapping
from client.onboarding import COLUMNS, AsJson, SiteFile, onboarding
from client.review_commands import review
from client.segment_commands import segment
from client.site import open_site
from client.start_commands import start_commands
from client.tasks.prepare_cohort import PreparationReport, prepare_cohort
from client.withdraw_commands import withdrawing
from common.catalogue import SEQUENCES
from common.command import new_command, run_command, say, screen
from common.config.radiomics import PRESET_NAMES

__all__ = ["main"]

app = new_command("What a hospital runs; nothing here sends anything.")
app.add_typer(review, name="review")
app.add_typer(segment, name="segment")

app.add_typer(onboarding)
app.add_typer(withdrawing)
app.add_typer(start_commands)
app.add_typer(egress_commands)


@app.command()
def prepare(
    site: SiteFile,
    pictures: Annotated[bool, typer.Option(help="draw one picture per case")] = True,
    as_json: AsJson = False,
) -> None:
    """Prepare every case: register, strip, correct, segment, extract. Goes on where it was stopped.

    Where the protocol requires a review it stops at the automatic mask, and goes on when a reader's is accepted.

    Example: fedmidline-site prepare --site site_configs/sites/tcga-example.yaml
    """
    opened = open_site(site)
    with Progress(*COLUMNS, console=screen) as bars:
        bar = bars.add_task("cases", total=None)
        report = prepare_cohort(
            opened,
            progress=lambda done, of, text: bars.update(bar, completed=done, total=of, description=text or "cases"),
            pictures=pictures,
        )
    cache = opened.settings.cache
    say(_as_dict(report, cache), _outcome_table(report), as_json=as_json)
    for outcome in report.outcomes:
        if outcome.status == "quarantined":
            screen.print(outcome.reason, style="red", markup=False, highlight=False)
    if not as_json and pictures:
        screen.print(f"pictures: {cache / 'pictures'}", soft_wrap=True)
    if report.count("to_review"):
        screen.print(f"{report.count('to_review')} case(s) wait for a reader: fedmidline-site review list")
    if report.count("quarantined"):
        raise typer.Exit(2)


@app.command()
def landmarks(
    site: SiteFile,
    out: Annotated[Path, typer.Option(help="the JSON file for the study's coordinator")] = Path("landmarks.json"),
    as_json: AsJson = False,
) -> None:
    """Sum the training cases' landmarks for a study that normalises by Nyul's method. Goes on where it was stopped.

    The file holds sums over all training cases and is refused below the protocol's min_cases.  The coordinator makes
    the standard scale of all sites' files: fedmidline-study landmarks.

    Example: fedmidline-site landmarks --site my-site/site.yaml --out landmarks-my-site.json
    """
    from client.tasks.landmarks import sum_landmarks

    with Progress(*COLUMNS, console=screen) as bars:
        bar = bars.add_task("cases", total=None)
        report = sum_landmarks(open_site(site), lambda done, of: bars.update(bar, completed=done, total=of))
    write_whole(out, report.reply.model_dump_json(indent=1).encode(), field="out", mode=0o644)
    result = {"file": str(out), "training_cases": report.reply.cases, "set_aside": sorted(report.set_aside)}
    say(result, f"{out}: sums over {report.reply.cases} training cases", as_json=as_json)
    for fault in report.set_aside.values():
        screen.print(fault, style="red", markup=False, highlight=False)
    if report.set_aside:
        raise typer.Exit(2)


@app.command()
def quality(
    site: SiteFile,
    out: Annotated[Path | None, typer.Option(help="the HTML file to write; default: quality.html in the cache")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge the prepared cases and write a page of their slices, most suspicious first. Stays in the hospital.

    Example: fedmidline-site quality --site my-site/site.yaml
    """
    from client.tasks.quality_page import look_at_quality, render_quality

    opened = open_site(site)
    found = look_at_quality(opened)
    path = out or opened.settings.cache / "quality.html"
    write_whole(path, render_quality(opened, found).encode(), field="out")
    table = Table("case", "verdict", "suspicion", "why", title="Quality")
    for case in found.cases:
        table.add_row(
            case.pseudonym, case.verdict.word, f"{case.verdict.suspicion:.2f}", "; ".join(case.verdict.reasons)
        )
    for aside in found.set_aside:
        table.add_row(aside.pseudonym, "set aside", "", aside.code)
    say({**found.as_dict(), "page": str(path)}, table, as_json=as_json)
    if not as_json:
        screen.print(f"page: {path}", soft_wrap=True)


@app.command()
def features(
    t1ce: Annotated[Path, typer.Option(help="contrast-enhanced T1, any image SimpleITK reads")],
    mask: Annotated[Path, typer.Option(help="tumour mask on the same grid")],
    flair: Annotated[Path | None, typer.Option(help="T2-FLAIR on the same grid; without it only T1CE names")] = None,
    preset: Annotated[str | None, typer.Option(help=f"one of {', '.join(PRESET_NAMES)}")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="a PyRadiomics parameter file (YAML), instead of a preset")
    ] = None,
    signature: Annotated[bool, typer.Option("--signature", help="only the paper's 19 features")] = False,
    label: Annotated[
        str | None, typer.Option(help="which label of the mask: a number, or `any` for all together")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """PyRadiomics 3.0.1's features of one case, by catalogue name.

    Images are taken as they are: a preset neither normalises nor resamples (`prepare` z-scores in the brain
    before it measures).  A parameter file is followed in full, its normalisation and resampling included; what it
    asks for and is not computed here is refused by name.  Without --label a preset takes the mask's only label,
    and a parameter file the label it names (1 by default), as PyRadiomics does.

    Example: fedmidline-site features --t1ce t1ce.nii.gz --flair flair.nii.gz --mask tumour.nii.gz --preset ibsi_like_32 --json
    """
    from client.tasks.measure_files import measure_files

    result = measure_files(
        t1ce, flair, mask, preset=preset, parameter_file=settings, signature_only=signature, label=label
    )
    for warning in result.warnings:
        screen.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    table = Table("feature", "value", title="Radiomics")
    for name, value in result.values.items():
        table.add_row(name, f"{value:.10g}")
    say(result.values, table, as_json=as_json)


@app.command("import-table")
def import_table(
    site: SiteFile,
    table: Annotated[
        list[str], typer.Option(help="CSV with catalogue names, or SEQUENCE=CSV for one sequence's table")
    ],
    id_column: Annotated[str, typer.Option("--id", help="its column of pseudonyms")] = "pseudonym",
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML of `their column: catalogue name` lines, as site_configs/mappings/mirp.yaml"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take features from tables instead of images; the manifest names the cases and may leave their paths empty.

    Example: fedmidline-site import-table --site site.yaml --table T1CE=t1ce.csv --table FLAIR=flair.csv --id PatientID
    """
    from client.tasks.import_table import import_table as run

    sources = []
    for text in table:
        sequence, _, path = text.rpartition("=") if text.split("=")[0] in SEQUENCES else ("", "", text)
        sources.append(TableSource(Path(path), sequence))
    names = {} if mapping is None else read_mapping(mapping)
    report = run(open_site(site), tuple(sources), id_column=id_column, mapping=names)
    result: dict[str, Any] = {
        "imported": len(report.imported),
        "cases_without_row": list(report.without_row),
        "rows_without_case": list(report.without_case),
        "ignored_columns": list(report.ignored),
    }
    picture = Table("", "", title="Import", show_header=False)
    for key, value in result.items():
        picture.add_row(key, str(value) if isinstance(value, int) else f"{len(value)}: {', '.join(value[:5])}")
    say(result, picture, as_json=as_json)


@app.command()
def score(
    site: SiteFile,
    model: Annotated[Path, typer.Option(help="folder with model.safetensors and model.json")],
    as_json: AsJson = False,
) -> None:
    """Score the prepared cases with a released model: no training, no selection, nothing sent.

    Each case comes with the contribution of every input to its margin and with how far it lies from the training mean.

    Example: fedmidline-site score --site site.yaml --model runs/replay/model
    """
    from client.tasks.score_cases import score_cases

    scored = score_cases(open_site(site), model)
    table = Table("case", "safety", "called", "most towards altered", "most towards not altered", "far", title="Scores")
    for row in scored.rows:
        order = sorted(row["contributions"], key=row["contributions"].__getitem__)
        ends = [f"{name} {row['contributions'][name]:+.2f}" for name in (order[0], order[-1])]
        called = "altered" if row["called_altered"] else "not altered"
        table.add_row(row["pseudonym"], f"{row['safety_score']:.3f}", called, *ends, str(len(row["far"])))
    say({**scored.summary, "cases_scored": list(scored.rows), "file": str(scored.file)}, table, as_json=as_json)


@app.command("feature-card")
def feature_card(
    site: SiteFile,
    out: Annotated[Path | None, typer.Option(help="folder for feature_card.json and .md; default: the cache")] = None,
    as_json: AsJson = False,
) -> None:
    """Describe the features of the prepared cases: definitions, redundancy, and stability where it was measured.

    Example: fedmidline-site feature-card --site site_configs/sites/tcga-example.yaml
    """
    from client.features.card import card_markdown
    from client.tasks.describe_features import describe_features

    opened = open_site(site)
    result = describe_features(opened)
    folder = out or opened.settings.cache
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_card.json").write_text(json.dumps(result, indent=1))
    (folder / "feature_card.md").write_text(card_markdown(result))
    table = Table("", "", title="Feature card", show_header=False)
    for key, value in {**result.get("redundancy", {}), **result.get("stability", {})}.items():
        table.add_row(key, str(value) if not isinstance(value, list | tuple) else f"{len(value)}: see feature_card.md")
    table.add_row("written to", str(folder))
    say(result, table, as_json=as_json)


def main() -> None:
    """Entry point."""
    run_command(app)


def _as_dict(report: PreparationReport, cache: Path) -> dict[str, Any]:
    return {
        "in": len(report.outcomes),
        "counts": dict(Counter(outcome.status for outcome in report.outcomes)),
        "cases": [
            {
                "pseudonym": outcome.pseudonym,
                "status": outcome.status,
                "reason": outcome.reason,
                "code": outcome.code,
                "cure": outcome.cure,
                "warnings": list(outcome.warnings),
                "seconds": outcome.seconds,
            }
            for outcome in report.outcomes
        ],
        "pictures": str(cache / "pictures"),
        "methods": report.methods,
    }


def _outcome_table(report: PreparationReport) -> Table:
    table = Table("case", "status", "warnings", "seconds", title="Preparation")
    for outcome in report.outcomes:
        seconds = f"{sum(outcome.seconds.values()):.0f}" if outcome.seconds else ""
        state = f"{outcome.status}: {outcome.reason}" if outcome.status in ("to_review", "rejected") else outcome.status
        table.add_row(outcome.pseudonym, state, "; ".join(outcome.warnings), seconds)
    return table


if __name__ == "__main__":
    main()
