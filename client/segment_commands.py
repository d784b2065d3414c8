"""segment_commands: `fedmidline-site segment ...`: train, use, judge and import the network that draws the tumour."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.site import Site, open_site
from common.command import say, screen

__all__ = ["segment"]

segment = typer.Typer(no_args_is_help=True, help="The network that draws the whole tumour. Stays in the hospital.")

SiteFile = Annotated[Path, typer.Option("--site", help="the hospital's site.yaml")]
WeightsName = Annotated[str, typer.Option("--name", help="of the weights, as a protocol will call them")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")]
COLUMNS = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


@segment.command()
def prepare(site: SiteFile, as_json: AsJson = False) -> None:
    """Images and small volumes of every case, for training here or in a study; goes on where it was stopped.

    Exit code 2 when a case was set aside; the others are ready.

    Example: fedmidline-site segment prepare --site site.yaml
    """
    result = _prepared(open_site(site))
    say(result, _counts(result, "Cases of the network"), as_json=as_json)
    if result["set_aside"]:
        raise typer.Exit(2)


@segment.command()
def train(
    site: SiteFile,
    name: WeightsName,
    afresh: Annotated[bool, typer.Option("--afresh", help="forget an interrupted training of this name")] = False,
    as_json: AsJson = False,
) -> None:
    """Train on this site's training cases that have a true mask, as segmentation.training of the protocol says.

    Stopped (exit code 4), the same command goes on after the last whole round and ends with the same weights.  The test
    cases are not opened.  What is printed at the end goes into the protocol.

    Example: fedmidline-site segment train --site site.yaml --name our-unet
    """
    from client.tasks.segment_import import protocol_block
    from client.tasks.segment_train import train_alone

    opened = open_site(site)
    cases = _prepared(opened)
    with Progress(*COLUMNS, console=screen) as bars:
        bar = bars.add_task("rounds", total=None)

        def progress(done: int, of: int, loss: float) -> None:
            text = f"rounds, loss {loss:.3f}" if done else "rounds"
            bars.update(bar, completed=done, total=of, description=text)

        trained = train_alone(opened, name, afresh=afresh, progress=progress)
    settings = opened.protocol.segmentation
    block = protocol_block(settings.network, name, trained.sha256, settings.working_mm)
    result = {
        "file": str(trained.file),
        "training_cases": trained.cases,
        "losses": list(trained.losses),
        "resumed_after_rounds": trained.resumed_after,
        "cases": cases,
        "protocol": block,
    }
    say(result, yaml.safe_dump(block, sort_keys=False), as_json=as_json)
    screen.print(f"weights: {trained.file}", soft_wrap=True)


@segment.command()
def predict(
    site: SiteFile,
    out: Annotated[Path | None, typer.Option(help="folder for the masks; default: in the site's cache")] = None,
    weights: Annotated[str, typer.Option(help="instead of the protocol's, with the same network")] = "",
    flips: Annotated[
        Literal["none", "left_right", "all"] | None, typer.Option(help="mirror images; default: the protocol's")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the whole tumour of every case: PSEUDONYM.nii.gz on the analysis grid, and how sure the network was.

    Exit code 2 when a case was set aside.

    Example: fedmidline-site segment predict --site site.yaml --out masks --flips left_right
    """
    from client.tasks.segment_predict import predict_cohort, predictions_folder

    opened = _with(open_site(site), weights, flips)
    folder = out or predictions_folder(opened)
    with Progress(*COLUMNS, console=screen) as bars:
        bar = bars.add_task("cases", total=None)
        found = predict_cohort(opened, folder, progress=lambda done, of: bars.update(bar, completed=done, total=of))
    table = Table("case", "status", "ml", "uncertainty", "volume spread", title="Segmentation")
    for p in sorted(found, key=lambda p: -p.uncertainty):
        numbers = (f"{p.volume_ml:.1f}", f"{p.uncertainty:.3f}", f"{p.volume_spread:.3f}")
        table.add_row(p.pseudonym, p.status, *(numbers if p.status == "segmented" else (p.code, "", "")))
    counts = Counter(p.status for p in found)
    keys = ("pseudonym", "status", "volume_ml", "uncertainty", "volume_spread", "code", "reason", "cure")
    cases = [{key: getattr(p, key) for key in keys} for p in found]
    say({"folder": str(folder), "counts": counts, "cases": cases}, table, as_json=as_json)
    screen.print(f"masks: {folder}", soft_wrap=True)
    if counts["set_aside"]:
        raise typer.Exit(2)


@segment.command()
def evaluate(
    site: SiteFile,
    of: Annotated[Literal["test", "train", "all"], typer.Option("--set", help="which cases")] = "test",
    weights: Annotated[str, typer.Option(help="instead of the protocol's, with the same network")] = "",
    flips: Annotated[
        Literal["none", "left_right", "all"] | None, typer.Option(help="mirror images; default: the protocol's")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Dice and HD95 of the network's masks against the true ones, per case and in the mean.

    Example: fedmidline-site segment evaluate --site site.yaml --json
    """
    from client.device import choose_device
    from client.segment.weights import load_network
    from client.tasks.segment_cases import segment_cases
    from client.tasks.segment_evaluate import score_segmentation, summary
    from client.tasks.segment_train import installed_weights

    opened = _with(open_site(site), weights, flips)
    network = load_network(
        opened.protocol.segmentation,
        device=choose_device(opened.settings.device),
        installed=installed_weights(opened),
    )
    prepared = _prepared(opened)
    aside = {case["pseudonym"] for case in prepared["set_aside"]}
    wanted = [
        case
        for case in segment_cases(opened)
        if case.labelled and case.row.pseudonym not in aside and (of == "all" or case.test == (of == "test"))
    ]
    _require_cases(len(wanted), opened, of)
    with Progress(*COLUMNS, console=screen) as bars:
        bar = bars.add_task("cases", total=len(wanted))
        scores = score_segmentation(opened, wanted, network, progress=lambda done, _: bars.update(bar, completed=done))
    told = summary(scores, site=opened.settings.name)
    table = Table("case", "Dice", "HD95 mm", "found ml", "true ml", "uncertainty", title="Segmentation")
    for s in sorted(scores, key=lambda s: s.dice):
        numbers = (
            f"{s.dice:.3f}",
            f"{s.hd95_mm:.1f}",
            f"{s.volume_ml:.1f}",
            f"{s.true_ml:.1f}",
            f"{s.uncertainty:.3f}",
        )
        table.add_row(s.pseudonym, *numbers)
    mean = "-" if told.hd95_mean_mm is None else f"{told.hd95_mean_mm:.1f}"
    table.add_section()
    table.add_row("mean", f"{told.dice_mean:.3f}", mean, "", "", "")
    cases = [{key: _or_none(getattr(s, key)) for key in s.__dataclass_fields__} for s in scores]
    say(
        {**told.model_dump(exclude={"schema_version"}), "set": of, "cases_scored": cases, "prepared": prepared},
        table,
        as_json=as_json,
    )


@segment.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="a study's NAME.safetensors, or the folder of a MONAI bundle")],
    site: SiteFile,
    name: WeightsName,
    sha256: Annotated[str, typer.Option(help="of the file, or of the bundle's models/model.pt, which needs it")] = "",
    as_json: AsJson = False,
) -> None:
    """Bring weights into the site's folder and print what a protocol writes to use them.

    Of a bundle (layout brats_mri_segmentation) order of channels, outputs and normalisation are honoured; its
    configuration is never evaluated and its weights are opened as tensors only.  Sequences that the study does not have
    are set to zero, which costs accuracy: evaluate first.

    Example: fedmidline-site segment import brats_mri_segmentation --site site.yaml --name brats --sha256 0f...
    """
    from client.tasks.segment_import import import_weights

    found = import_weights(open_site(site), path, name=name, sha256=sha256)
    result = {"file": str(found.file), "source": found.source, "protocol": found.protocol}
    say(result, yaml.safe_dump(found.protocol, sort_keys=False), as_json=as_json)
    screen.print(f"weights: {found.file}", soft_wrap=True)


def _prepared(site: Site) -> dict[str, Any]:
    """Prepare and count: listed = ready + set aside."""
    from client.tasks.segment_cases import prepare_images, segment_cases

    cases = segment_cases(site)
    with Progress(*COLUMNS, console=screen) as bars:
        bar = bars.add_task("images", total=len(cases))
        found = prepare_images(site, cases, progress=lambda done, _: bars.update(bar, completed=done))
    aside = [one for one in found if one.status == "set_aside"]
    for one in aside:
        screen.print(f"{one.pseudonym} {one.code}: {one.reason} {one.cure}", style="red", markup=False, highlight=False)
    names = {one.pseudonym for one in aside}
    labelled = [case for case in cases if case.labelled and case.row.pseudonym not in names]
    return {
        "eligible": len(cases),
        "ready": len(cases) - len(aside),
        "training_cases_with_mask": sum(not case.test for case in labelled),
        "test_cases_with_mask": sum(case.test for case in labelled),
        "set_aside": [
            {"pseudonym": one.pseudonym, "code": one.code, "reason": one.reason, "cure": one.cure} for one in aside
        ],
    }


def _counts(result: dict[str, Any], title: str) -> Table:
    table = Table("", "", title=title, show_header=False)
    for key, value in result.items():
        table.add_row(key.replace("_", " "), str(len(value) if isinstance(value, list) else value))
    return table


def _with(site: Site, weights: str, flips: str | None) -> Site:
    """The site with other weights or mirror images, for this command alone."""
    changes: dict[str, Any] = {"weights": weights, "weights_sha256": ""} if weights else {}
    if flips is not None:
        changes["flips"] = flips
    segmentation = site.protocol.segmentation.model_copy(update=changes)
    return Site(site.settings, site.protocol.model_copy(update={"segmentation": segmentation}))


def _require_cases(found: int, site: Site, of: str) -> None:
    from common.errors import Refused

    if not found:
        raise Refused(
            "no-true-masks",
            site=site.settings.name,
            field="mask_path",
            problem=f"No case of the set `{of}` has a true mask.",
            fix="Name masks in the manifest, accept reviewed ones, or choose another --set.",
        )


def _or_none(value: Any) -> Any:
    """JSON knows no NaN."""
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124
