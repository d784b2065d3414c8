"""cli: the command fedmidline-study, for the coordinator: where a study stands, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from common.command import new_command, run_command, say
from common.config.parse import parse_settings
from common.config.preprocessing import LANDMARK_PERCENTILES
from common.config.privacy import VotesSettings
from common.config.protocol import Protocol
from common.errors import InputError
from common.privacy.accounting import epsilon_of
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.reference_scale import with_candidates, with_reference
from server.release_commands import lineage, release
from server.reporting.content import StudyContent
from server.reporting.evaluation import retraining_view, server_view
from server.reporting.model_files import write_model
from server.reporting.privacy import privacy_view
from server.reporting.report import write_report
from server.reporting.segmentation_files import segmentation_figures, write_segmentation
from server.run_commands import running
from server.standard_scale import combine_landmarks, read_landmarks, with_scale
from server.state import StudyState
from server.status import as_picture, as_row, watch_status
from server.study_commands import provisioning

__all__ = ["main"]

app = new_command("What the coordinator runs.")
app.add_typer(release, name="release")
app.add_typer(provisioning)
app.add_typer(running)
app.add_typer(lineage)

Folder = Annotated[Path, typer.Option("--study", help="the study's folder, with study.yaml and its checkpoint")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")]


@app.command()
def status(
    study: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="stay, and show it anew until the run has ended")] = False,
    as_json: AsJson = False,
) -> None:
    """How far the study is: sites, phase, round, metrics, bytes, refusals, privacy budgets, and who contributed to what.

    Example: fedmidline-study status --study runs/replay/study
    """
    if watch:
        watch_status(study)
    state = _open(study)
    say(as_row(state, study), as_picture(state, study), as_json=as_json)


@app.command()
def report(study: Folder, out: Annotated[Path, typer.Option(help="folder to write")], as_json: AsJson = False) -> None:
    """Write report and model of a finished study from what the server holds: no case, no score.

    Of a study of the segmentation network: its weights with their card, and Dice and HD95 by site.

    Example: fedmidline-study report --study runs/replay/study --out runs/study-report
    """
    state = _open(study)
    trained = state.selection is not None or state.trains == "segmentation"
    if not state.finished or not trained:
        raise InputError(
            "study-not-finished",
            field="status",
            problem="The study has not reached its end.",
            fix="Resume it first; `fedmidline-study status` tells where it stands.",
        )
    if state.trains == "segmentation":
        path = write_segmentation(out, state)
        say({"weights": str(path), **segmentation_figures(state)}, f"weights: {path}", as_json=as_json)
        return
    content = _content(state)
    result = write_report(out, content, seed=state.protocol.seed)
    write_model(out / "model", state)
    say(result, f"report: {out / 'report.html'}", as_json=as_json)


@app.command()
def landmarks(
    files: Annotated[list[Path], typer.Argument(help="the sites' files, of `fedmidline-site landmarks`")],
    protocol: Annotated[Path, typer.Option(help="the protocol that the sites measured with")],
    out: Annotated[Path, typer.Option(help="the protocol to write: the same, normalised by Nyul's method")],
    as_json: AsJson = False,
) -> None:
    """Make the standard scale of all sites' landmarks, and the protocol that normalises to it.

    Example: fedmidline-study landmarks a.json b.json --protocol protocol.yaml --out protocol-nyul.yaml
    """
    text = protocol.read_text(encoding="utf-8") if protocol.is_file() else ""
    settings, replies = parse_settings(Protocol, text, source=protocol.name), read_landmarks(files)
    scale = combine_landmarks(replies, settings)
    _write(out, with_scale(settings, scale))
    result = {"sites": {r.site: r.cases for r in replies}, "standard_scale": scale.model_dump(), "protocol": str(out)}
    table = Table("", *map(str, LANDMARK_PERCENTILES), title=f"Standard scale of {len(replies)} sites")
    for name, values in scale.model_dump().items():
        table.add_row(name.upper(), *(f"{value:.1f}" for value in values))
    say(result, table, as_json=as_json)


@app.command()
def reference(
    model: Annotated[
        Path,
        typer.Argument(
            help="of public or simulated cases: a release, or the model folder of a report; for --votes, a study's folder"
        ),
    ],
    protocol: Annotated[Path, typer.Option(help="a protocol with privacy.record_level")],
    out: Annotated[Path, typer.Option(help="the protocol to write: the same, with private statistics")],
    noise_multiplier: Annotated[float, typer.Option(min=0.01, help="of each of the two exchanges")] = 4.0,
    votes: Annotated[
        bool, typer.Option("--votes", help="let the sites vote on the signature; else it is the paper's")
    ] = False,
    picks: Annotated[int, typer.Option(min=1, help="with --votes: features that each site names")] = 7,
    pick_epsilon: Annotated[float, typer.Option(min=0.001, max=100, help="with --votes: of each of them")] = 0.5,
    candidates: Annotated[int, typer.Option(min=1, help="with --votes: the best of the study's features")] = 200,
    as_json: AsJson = False,
) -> None:
    """Let the features' scale, and with --votes the signature, be found with differential privacy, around what anybody may
    know of other cases.

    Example: fedmidline-study reference public/report/model --protocol protocol.yaml --out protocol-private.yaml
    """
    text = protocol.read_text(encoding="utf-8") if protocol.is_file() else ""
    settings = parse_settings(Protocol, text, source=protocol.name)
    if votes:
        rules = VotesSettings(picks=picks, epsilon=pick_epsilon)
        private = with_candidates(
            settings, model, noise_multiplier=noise_multiplier, votes=rules, candidates=candidates
        )
    else:
        private = with_reference(settings, model, noise_multiplier=noise_multiplier)
    written = parse_settings(Protocol, private, source=out.name)
    _write(out, private)
    asked = written.privacy.record_level
    spent = 0.0 if asked is None or asked.statistics is None else epsilon_of(asked.statistics.events(), asked.delta)
    result = {"protocol": str(out), "fingerprint": written.fingerprint(), "epsilon_of_statistics": spent}
    say(result, f"{out}: the statistics spend epsilon {spent:.2f}", as_json=as_json)


def main() -> None:
    """Entry point."""
    run_command(app)


def _write(out: Path, text: str) -> None:
    beside = out.with_name(f".{out.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(out)


def _open(study: Path) -> StudyState:
    return load_checkpoint(study / CHECKPOINT)


def _content(state: StudyState) -> StudyContent:
    """What a report can say without any case."""
    if state.selection is None:
        raise ValueError("no selection")
    scores = dict(zip(state.protocol.radiomics.names(), state.selection.scores, strict=True))
    return StudyContent(
        title=f"Study {state.study}",
        status=state.status(),
        synthetic=False,
        cases=(),
        arms=(),
        ranking=tuple((name, float(scores[name])) for name in state.selection.signature),
        ties=state.selection.ties,
        selection_method=state.protocol.selection.method if state.origin is None else "that of the release",
        exchanges=state.exchanges,
        laws=(),
        server_view=server_view(state),
        threshold=state.protocol.evaluation.threshold,
        bootstrap=state.protocol.evaluation.bootstrap,
        protocol=state.protocol.model_dump(mode="json"),
        provenance={"protocol": state.protocol.name, "protocol fingerprint": state.protocol.fingerprint()},
        preparation={},
        methods="",
        timings={e.phase: e.seconds for e in state.exchanges},
        parameters={"visual": state.protocol.visual.length},
        sections={
            "retraining": retraining_view(state),
            "privacy": privacy_view(state.protocol, state.rounds_done, from_release=state.origin is not None),
        },
    )


if __name__ == "__main__":
    main()
