"""cli: the command fedmidline-sim: synthetic cohorts, the replay, the segmentation weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.site import open_site, read_settings_text
from client.tasks.load_cohort import load_cohort
from common.command import new_command, run_command, say, screen
from common.config.parse import parse_settings
from common.config.protocol import Protocol
from server.state import Exchange
from simulation.attacks.command import attack
from simulation.cohort.make_cohort import CohortSettings, make_cohort
from simulation.compare import ARMS, compare
from simulation.comparison import comparison
from simulation.journal import Journal
from simulation.many_splits import JOURNAL
from simulation.partition import Partition
from simulation.privacy_table import arms, privacy_table
from simulation.replay import ReplaySettings
from simulation.run_replay import Progress as ReplayProgress
from simulation.run_replay import run_replay
from simulation.run_search import parse_grid, run_search
from simulation.segmentation import run_segmentation
from simulation.segmenter import train_synthetic_segmenter
from simulation.size import at_size
from simulation.statistics.commands import statistics

__all__ = ["main"]

app = new_command("Simulate a federation on one machine.")
app.add_typer(statistics, name="statistics")
app.command()(attack)

RECOMMENDED = Path(__file__).resolve().parents[1] / "site_configs" / "protocols" / "recommended.yaml"

Size = Annotated[Literal["small", "full"], typer.Option(help="small: 2 mm, minutes; full: 1 mm, hours")]
Seed = Annotated[int, typer.Option(help="of the cohort")]
Workers = Annotated[int, typer.Option(help="processes side by side")]
Altered = Annotated[int, typer.Option(help="cases with H3 K27 alteration")]
NotAltered = Annotated[int, typer.Option(help="cases without")]
Effect = Annotated[float, typer.Option(help="distance of the classes in SD of the latent trait; 0 is the null cohort")]
Shortcut = Annotated[bool, typer.Option(help="use the scanners unequally between the classes")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")]


@app.command()
def cohort(
    out: Annotated[Path, typer.Option(help="folder to write")],
    size: Size = "small",
    seed: Seed = 1,
    altered: Altered = 127,
    not_altered: NotAltered = 127,
    effect: Effect = CohortSettings.effect,
    scanner_shortcut: Shortcut = False,
    dicom: Annotated[bool, typer.Option(help="write DICOM series beside the NIfTI files")] = False,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Write a synthetic cohort: images, true masks, manifest.

    Example: fedmidline-sim cohort --out cohorts/demo --altered 10 --not-altered 10
    """
    settings = CohortSettings(seed, size, altered, not_altered, effect, scanner_shortcut, dicom)
    with _bars() as bars:
        bar = bars.add_task("heads", total=altered + not_altered)
        manifest = make_cohort(
            out, settings, workers=workers, progress=lambda done, _: bars.update(bar, completed=done)
        )
    say({"manifest": str(manifest), "cases": altered + not_altered}, f"cohort written: {manifest}", as_json=as_json)


@app.command()
def replay(
    out: Annotated[Path, typer.Option(help="folder of the run; what is finished in it is not done again")],
    protocol: Annotated[Path, typer.Option(help="protocol file")] = RECOMMENDED,
    size: Size = "small",
    engine: Annotated[Literal["local", "ray", "loopback"], typer.Option(help="carrier of the messages")] = "local",
    partition: Annotated[Partition, typer.Option(help="who holds which case")] = "scanner",
    sites: Annotated[int, typer.Option(help="how many, unless by scanner")] = 3,
    rounds: Annotated[int, typer.Option(help="0: as the protocol says")] = 0,
    resume: Annotated[bool, typer.Option(help="go on with a study that was stopped")] = True,
    splits: Annotated[int, typer.Option(min=0, help="over which the main comparison is repeated")] = 10,
    seed: Seed = 1,
    altered: Altered = 127,
    not_altered: NotAltered = 127,
    effect: Effect = CohortSettings.effect,
    scanner_shortcut: Shortcut = False,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """The single-centre study (204/50), federated, beside pooled data and each site alone.

    Example: fedmidline-sim replay --out runs/replay
    """
    chosen = parse_settings(Protocol, read_settings_text(protocol), source=protocol.name)
    if rounds:
        chosen = chosen.model_copy(update={"training": chosen.training.model_copy(update={"rounds": rounds})})
    chosen, changes = at_size(chosen, size)
    with _bars() as bars:
        report = run_replay(
            out,
            chosen,
            ReplaySettings(engine, partition, sites, resume, splits),
            CohortSettings(seed, size, altered, not_altered, effect, scanner_shortcut),
            workers=workers,
            notes=tuple(f"size {size}: {change}" for change in changes),
            progress=_replay_progress(bars),
        )
    say(report, f"report: {out / 'report' / 'report.html'}", as_json=as_json)
    if not as_json:
        screen.print(_headline(report))


@app.command(name="compare")
def compare_arms(
    out: Annotated[Path, typer.Option(help="folder of a finished replay, whose prepared cases are used")],
    arms: Annotated[str, typer.Option(help="names, comma between; `all` for every arm")] = "federated,pooled,alone",
    seeds: Annotated[int, typer.Option(min=1, help="splits of the cohort, numbered from 0")] = 10,
    partition: Annotated[Partition, typer.Option(help="who holds which case")] = "scanner",
    sites: Annotated[int, typer.Option(help="how many, unless by scanner")] = 3,
    resume: Annotated[bool, typer.Option(help="take over what an earlier call has found")] = True,
    as_json: AsJson = False,
) -> None:
    """Ways of training side by side over several splits; writes compare.json into the folder.

    What is finished lies in compare.jsonl: a call that was stopped goes on, and more arms or seeds add to it.
    Arms: fedsgd fedavg fedavgm fedadam fedyogi fedprox scaffold feddyn norm_clip coordinate_median trimmed_mean krum
    geometric_median; federated pooled alone one_shot; adamw adamw_pooled; equal inverse_variance; own_normalisation
    own_last_layer; radiomics_only visual_only t1ce_radiomics flair_radiomics; relu_none relu_paper_literal; hidden_64
    channel_means random_projection; float32 float16 int8 low_rank low_rank_int8; private_inf private_30 private_10
    private_3 private_1 private_0.3 private_0.1 private_0, private_radiomics_inf ... private_radiomics_0 and fixed_signature
    private_scale_inf ... private_scale_0, private_votes_inf ... private_votes_0 (DP-SGD at that epsilon; see `privacy`).

    Example: fedmidline-sim compare --out runs/replay --arms federated,pooled,alone,fedavg,scaffold --seeds 10
    """
    journal = out / JOURNAL
    if not resume:
        journal.unlink(missing_ok=True)
    names = list(ARMS) if arms == "all" else [name.strip() for name in arms.split(",")]
    with _bars() as bars:
        bar = bars.add_task("arms", total=seeds * len(names))

        def progress(seed: int, arm: str) -> None:
            bars.update(bar, advance=1, description=f"seed {seed}: {arm}")

        site = out / "single-centre" / "site.yaml"
        results = compare(
            site, names, range(seeds), how=partition, sites=sites, progress=progress, journal=Journal(journal)
        )
    table = comparison(results)
    (out / "compare.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    say(table, _comparison(table), as_json=as_json)
    screen.print(f"written: {out / 'compare.json'}", soft_wrap=True)


@app.command()
def privacy(
    out: Annotated[Path, typer.Option(help="folder of a finished replay, whose prepared cases are used")],
    seeds: Annotated[int, typer.Option(min=1, help="splits of the cohort, numbered from 0")] = 10,
    partition: Annotated[Partition, typer.Option(help="who holds which case")] = "scanner",
    sites: Annotated[int, typer.Option(help="how many, unless by scanner")] = 3,
    resume: Annotated[bool, typer.Option(help="take over what an earlier call has found")] = True,
    as_json: AsJson = False,
) -> None:
    """Epsilon against AUC on small heads over several splits; writes privacy.json into the folder.

    Differential privacy by DP-SGD at each site (docs/privacy.md), beside the same heads without it. What is finished
    lies in compare.jsonl: a call that was stopped goes on.

    Example: fedmidline-sim privacy --out runs/replay --seeds 10
    """
    journal, site, names = out / JOURNAL, out / "single-centre" / "site.yaml", arms()
    if not resume:
        journal.unlink(missing_ok=True)
    with _bars() as bars:
        bar = bars.add_task("arms", total=seeds * len(names))

        def progress(seed: int, arm: str) -> None:
            bars.update(bar, advance=1, description=f"seed {seed}: {arm}")

        results = compare(
            site, names, range(seeds), how=partition, sites=sites, progress=progress, journal=Journal(journal)
        )
    opened = open_site(site)
    table = privacy_table(results, opened.protocol, len(load_cohort(opened, visual=False).test.table))
    (out / "privacy.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    say(table, _privacy_table(table), as_json=as_json)
    for sentence in table["says"]:
        screen.print(sentence)
    screen.print(f"written: {out / 'privacy.json'}", soft_wrap=True)


@app.command(name="search")
def search_settings(
    out: Annotated[Path, typer.Option(help="folder of a replay, whose prepared training cases are used")],
    grid: Annotated[
        list[str], typer.Option(help="SETTING=VALUE,VALUE of training, selection or head; may be repeated")
    ],
    folds: Annotated[int, typer.Option(min=2, help="of each site's training cases")] = 5,
    partition: Annotated[Partition, typer.Option(help="who holds which case")] = "scanner",
    sites: Annotated[int, typer.Option(help="how many, unless by scanner")] = 3,
    resume: Annotated[bool, typer.Option(help="take over what an earlier call has found")] = True,
    as_json: AsJson = False,
) -> None:
    """Hyper-parameters by federated cross-validation inside the training set; writes search.json into the folder.

    Test cases are not read. What is finished lies in search.jsonl: a call that was stopped goes on.

    Example: fedmidline-sim search --out runs/replay --grid training.learning_rate=0.03,0.1,0.3 --grid training.weight_decay=0.001,0.01 --grid selection.k=10,19,40
    """
    values = parse_grid(grid)
    with _bars() as bars:
        bar = bars.add_task("folds", total=folds * math.prod(len(v) for v in values.values()))

        def progress(fold: int, setting: str) -> None:
            bars.update(bar, advance=1, description=f"fold {fold + 1}: {setting}")

        table = run_search(out, values, folds=folds, how=partition, sites=sites, resume=resume, progress=progress)
    say(table, _search_table(table), as_json=as_json)
    screen.print(f"written: {out / 'search.json'}", soft_wrap=True)


@app.command()
def segmentation(
    out: Annotated[Path, typer.Option(help="folder of the run; what is finished in it is not done again")],
    protocol: Annotated[Path, typer.Option(help="protocol file; segmentation.training says how")] = RECOMMENDED,
    size: Size = "small",
    engine: Annotated[Literal["local", "ray", "loopback"], typer.Option(help="carrier of the messages")] = "local",
    partition: Annotated[Partition, typer.Option(help="who holds which case")] = "scanner",
    sites: Annotated[int, typer.Option(help="how many, unless by scanner")] = 3,
    rounds: Annotated[int, typer.Option(help="0: as the protocol says")] = 0,
    alone: Annotated[bool, typer.Option(help="train each site alone, too")] = True,
    seed: Seed = 1,
    altered: Altered = 30,
    not_altered: NotAltered = 30,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """The segmentation network federated, beside pooled data and each site alone: Dice and HD95 on held-out cases.

    Stopped (exit code 4), the same command goes on after the last whole round.

    Example: fedmidline-sim segmentation --out runs/segmentation --altered 30 --not-altered 30
    """
    chosen = parse_settings(Protocol, read_settings_text(protocol), source=protocol.name)
    if rounds:
        training = chosen.segmentation.training.model_copy(update={"rounds": rounds})
        network = chosen.segmentation.model_copy(update={"training": training})
        chosen = chosen.model_copy(update={"segmentation": network})
    chosen, _ = at_size(chosen, size)
    with _bars() as bars:
        report = run_segmentation(
            out,
            chosen,
            ReplaySettings(engine, partition, sites),
            CohortSettings(seed, size, altered, not_altered),
            workers=workers,
            alone=alone,
            progress=_replay_progress(bars),
        )
    table = Table("arm", "mean Dice", "lowest", "HD95 mm", "cases", title=report["status"])
    for name, arm in report["arms"].items():
        distance = "-" if arm["hd95_mean_mm"] is None else f"{arm['hd95_mean_mm']:.1f}"
        table.add_row(name, f"{arm['dice_mean']:.3f}", f"{arm['dice_lowest']:.3f}", distance, str(arm["cases"]))
    say(report, table, as_json=as_json)


@app.command()
def segmenter(
    out: Annotated[Path, typer.Option(help="folder for weights and card")],
    cases: Annotated[int, typer.Option(help="synthetic heads to learn from")] = 48,
    steps: Annotated[int, typer.Option(help="training steps")] = 600,
    flat: Annotated[bool, typer.Option("--flat", help="the two-dimensional network of visual.variant unet2d")] = False,
    workers: Workers = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train the segmentation weights anew on synthetic heads that no replay uses.

    Example: fedmidline-sim segmenter --out client/segment/weights
    """
    with _bars() as bars:
        bar = bars.add_task("steps", total=steps)
        path, dice = train_synthetic_segmenter(
            out,
            dimensions=2 if flat else 3,
            cases=cases,
            steps=steps,
            workers=workers,
            device=device,
            progress=lambda step, loss: bars.update(bar, completed=step, description=f"loss {loss:.3f}"),
        )
    say(
        {"weights": str(path), "held_out_mean_dice": dice},
        f"{path}: Dice {dice:.3f} on held-out heads",
        as_json=as_json,
    )


def main() -> None:
    """Entry point."""
    run_command(app)


def _bars() -> Progress:
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=screen)


def _replay_progress(bars: Progress) -> ReplayProgress:
    """One bar per stage; the federation's bar counts exchanges."""
    current: list[TaskID] = []

    def finish() -> None:
        if current:
            task = bars.tasks[bars.task_ids.index(current[-1])]
            bars.update(current[-1], total=task.total or 1, completed=task.total or 1)

    def stage(text: str) -> None:
        finish()
        current.append(bars.add_task(text, total=None))

    def step(done: int, of: int, _text: str) -> None:
        bars.update(current[-1], completed=done, total=of)

    def exchange(event: Exchange) -> None:
        lost = [f"{site} {status}" for site, status in event.roster.items() if status != "contributed"]
        bars.update(current[-1], advance=1)
        if lost:
            bars.console.print(f"{event.action} round {event.round}: {', '.join(lost)}", style="yellow")

    return ReplayProgress(stage, step, exchange)


def _headline(report: dict[str, Any]) -> Table:
    table = Table(
        "arm", "test AUC", "95 % bootstrap", "within-site", "sensitivity", "specificity", title=report["status"]
    )
    for name, arm in report["arms"].items():
        test = arm["test"]
        low, high = test["auc_bootstrap_95"]
        within = "-" if test["within_site_auc"] is None else f"{test['within_site_auc']:.3f}"
        shares = (f"{100 * test[what]:.0f} %" for what in ("sensitivity", "specificity"))
        table.add_row(name, f"{test['auc']:.3f}", f"{low:.3f} - {high:.3f}", within, *shares)
    return table


def _search_table(table: dict[str, Any]) -> Table:
    names = list(table["chosen"])
    shown = Table(*names, "mean AUC", "SE", "log loss", "", title=f"{table['folds']} folds of {table['cases']} cases")
    for row in sorted(table["settings"], key=lambda row: -row["mean"]):
        values = (str(row["setting"][name]) for name in names)
        mark = "chosen" if row["setting"] == table["chosen"] else ""
        shown.add_row(*values, f"{row['mean']:.3f}", f"{row['se']:.3f}", f"{row['log_loss']:.3f}", mark)
    return shown


def _privacy_table(table: dict[str, Any]) -> Table:
    shown = Table("head", "epsilon", "noise", "mean test AUC", "SD", "worst", "minus plain", "SE")
    for row in table["rows"]:
        spent = "clipped, no noise" if row["clipped"] else "no privacy"
        if row["target"] is not None:
            spent = f"{row['target']:g} ({row['accountant']} {row['epsilon']:.2f})" if row["target"] else "0: untrained"
        noise = f"{row['noise_multiplier']:.2f}" if row["target"] else "-"
        figures = (f"{row[what]:.3f}" for what in ("mean", "sd", "worst"))
        shown.add_row(row["head"], spent, noise, *figures, f"{row['minus_plain']:+.3f}", f"{row['se']:.3f}")
    return shown


def _comparison(table: dict[str, Any]) -> Table:
    shown = Table("arm", "mean test AUC", "SD", "worst", "minus pooled", "SE", "MB up per round")
    for name, line in table["arms"].items():
        difference = line["minus_pooled"]
        paired = ("-", "-") if difference is None else (f"{difference['mean']:+.3f}", f"{difference['se']:.3f}")
        size = f"{line['bytes_up'] / 1e6:.2f}" if line["bytes_up"] else "-"
        shown.add_row(name, f"{line['mean']:.3f}", f"{line['sd']:.3f}", f"{min(line['auc']):.3f}", *paired, size)
    return shown


if __name__ == "__main__":
    main()
