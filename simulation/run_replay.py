"""run_replay: all arms of the replay, from cohort to report; read it as the experiment.

cohort -> prepare once -> sites -> federated study -> exact study -> pooled oracle -> each site alone -> report
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.case import CaseRow
from client.ingest.manifest import read_manifest
from client.site import open_site
from client.tasks.load_cohort import load_cohort, load_repeats
from client.tasks.prepare_cohort import PreparationReport
from common.config.privacy import PrivacySettings
from common.config.protocol import Protocol
from common.deployment.lock import hold_lock
from common.errors import Refused
from server.reporting.content import CaseLine, StudyContent
from server.reporting.evaluation import server_view
from server.reporting.model_files import write_model
from server.reporting.privacy import privacy_view
from server.reporting.report import write_report
from server.state import Exchange, StudyState
from simulation.arms import compare_with_oracle, federated_arm, require_every_site, scored_arm
from simulation.cohort.make_cohort import CohortSettings, make_cohort
from simulation.doors import tell_doors
from simulation.many_splits import many_splits
from simulation.oracle import harmonise_pooled, pooled_oracle
from simulation.replay import ReplayFolder, ReplaySettings, build_sites, federate, prepare
from simulation.sections import describe

__all__ = ["Progress", "run_replay"]

EXACT_ROUNDS = 3
EXACT_RATE = 0.1


@dataclass(frozen=True)
class Progress:
    """Who is told: stage(text), step(done, all, text), exchange(Exchange)."""

    stage: Callable[[str], None] = lambda _text: None
    step: Callable[[int, int, str], None] = lambda _done, _all, _text: None
    exchange: Callable[[Exchange], None] = lambda _exchange: None


def run_replay(
    out: Path,
    protocol: Protocol,
    settings: ReplaySettings,
    cohort: CohortSettings,
    *,
    workers: int,
    notes: tuple[str, ...] = (),
    progress: Progress = Progress(),  # frozen
) -> dict[str, Any]:
    """Run everything that is not done yet in `out`; returns what report.json holds.

    Refused `already-running` where another replay is at work in the same folder.
    """
    _require_frozen(protocol)
    out.mkdir(parents=True, exist_ok=True)
    with hold_lock(out / "replay.lock", what="A replay in this folder"):
        return _run(out, protocol, settings, cohort, workers=workers, notes=notes, progress=progress)


def _run(
    out: Path,
    protocol: Protocol,
    settings: ReplaySettings,
    cohort: CohortSettings,
    *,
    workers: int,
    notes: tuple[str, ...],
    progress: Progress,
) -> dict[str, Any]:
    folder = ReplayFolder(out, protocol, out / "cache")
    with folder.timed("cohort"):
        progress.stage("making the synthetic cohort")
        manifest = make_cohort(
            out / "cohort", cohort, workers=workers, progress=lambda done, n: progress.step(done, n, "heads")
        )
    progress.stage("preparing cases: register, strip, N4, segment, extract")
    report = prepare(folder, manifest, workers=workers, progress=progress.step)
    manifest = folder.single_centre.parent / "manifest.csv"
    sites = build_sites(folder, settings, manifest)
    progress.stage(f"federated study over {len(sites)} sites ({settings.engine})")
    with folder.timed("federation"):
        state = federate(folder, sites, settings, notify=progress.exchange)
    require_every_site(state)
    with folder.timed("arms"):
        content = _compare(folder, sites, settings, state, report, cohort, notes, progress)
    write_model(out / "model", state)
    progress.stage("writing the report")
    result = write_report(out / "report", content, seed=protocol.seed)
    (out / "report.json").write_bytes((out / "report" / "report.json").read_bytes())
    return result


def _require_frozen(protocol: Protocol) -> None:
    """The arms beside the study train from cached features, which an encoder that learns makes stale."""
    if protocol.training.encoder_rate:
        raise Refused(
            "replay-needs-frozen-encoder",
            field="training.encoder_rate",
            problem="A replay trains its pooled and single arms from cached features of a frozen encoder.",
            fix="Set training.encoder_rate to 0, or run the protocol as a study over sites.",
        )


def _compare(
    folder: ReplayFolder,
    sites: Mapping[str, Path],
    settings: ReplaySettings,
    state: StudyState,
    preparation: PreparationReport,
    cohort: CohortSettings,
    notes: tuple[str, ...],
    progress: Progress,
) -> StudyContent:
    """The other arms, the laws, and everything the report prints."""
    protocol = folder.protocol
    site = open_site(folder.single_centre)
    everyone = load_cohort(site)
    rows = {name: read_manifest(open_site(path).settings.manifest, site=name) for name, path in sites.items()}
    owner = {row.pseudonym: name for name, held in rows.items() for row in held}
    progress.stage("pooled oracle")
    pooled = harmonise_pooled(everyone, site, owner)
    oracle = pooled_oracle(pooled, protocol, site=site.settings.name, repeats=load_repeats(site))
    losses = tuple(e.loss for e in state.exchanges if e.loss is not None)
    arms = [
        federated_arm(sites, state.study, losses),
        scored_arm("pooled", "one computer with all cases", oracle, pooled, owner, protocol),
    ]
    for name, path in sites.items():
        progress.stage(f"{name} alone")
        own = open_site(path)
        alone = pooled_oracle(load_cohort(own), protocol, site=name, repeats=load_repeats(own))
        text = f"trained on {name}'s training cases only, judged on all test cases"
        arms.append(scored_arm(f"{name} alone", text, alone, everyone, owner, protocol))
    progress.stage("exact mode: one full-batch step per round")
    training = protocol.training.model_copy(
        update={"strategy": "fedsgd", "rounds": EXACT_ROUNDS, "learning_rate": EXACT_RATE}
    )
    # Noise equals nothing: the exact mode is without differential privacy, and chooses as one computer would.
    openly = protocol.model_copy(
        update={"training": training, "privacy": PrivacySettings(), "selection": protocol.selection.without_noise()}
    )
    exact = ReplayFolder(folder.root / "exact", openly, folder.cache, "exact")
    exact_sites = build_sites(exact, settings, folder.single_centre.parent / "manifest.csv")
    exact_state = federate(exact, exact_sites, ReplaySettings("local", settings.partition, settings.sites))
    exact_oracle = pooled_oracle(pooled, exact.protocol, site=site.settings.name, repeats=load_repeats(site))
    everybody = {row.pseudonym: row for held in rows.values() for row in held}
    sections = describe(folder, sites, settings, state, arms[0], everybody, stage=progress.stage)
    progress.stage(f"the same over {settings.splits} splits")
    sections["splits"] = many_splits(folder, settings, tell=lambda seed: progress.step(seed, settings.splits, "split"))
    sections["privacy"] = privacy_view(protocol, state.rounds_done, from_release=False)
    selection = state.selection
    if selection is None:
        raise ValueError("the study is not finished")
    scores = dict(zip(everyone.training.table.names, selection.scores, strict=True))
    visual = protocol.visual.length
    hidden = protocol.head.hidden
    return StudyContent(
        title=f"Replay of the single-centre study, federated over {len(sites)} sites",
        status=state.status(),
        synthetic=True,
        cases=tuple(_case_line(row, name) for name, held in sorted(rows.items()) for row in held),
        arms=tuple(arms),
        ranking=tuple((name, float(scores[name])) for name in selection.signature),
        ties=selection.ties,
        selection_method=protocol.selection.method,
        exchanges=state.exchanges,
        laws=compare_with_oracle(state, oracle, (exact_state, exact_oracle)),
        server_view=server_view(state),
        threshold=protocol.evaluation.threshold,
        bootstrap=protocol.evaluation.bootstrap,
        protocol=protocol.model_dump(mode="json"),
        provenance=_provenance(folder, settings, cohort),
        preparation=dict(Counter(outcome.status for outcome in preparation.outcomes)),
        methods=preparation.methods,
        timings=folder.timings,
        notes=(
            *notes,
            *tell_doors(sites.values()),
            *(f"{o.pseudonym}: {o.reason.splitlines()[0]}" for o in preparation.outcomes if o.reason),
        ),
        parameters={
            "visual": visual,
            "first layer": visual * hidden + hidden,
            "second layer": 2 * (hidden + len(selection.signature)) + 2,
        },
        sections=sections,
    )


def _case_line(row: CaseRow, site: str) -> CaseLine:
    return CaseLine(
        site=site,
        set="test" if row.split == "test" else "train",
        altered=row.altered,
        age_years=row.age_years,
        sex=row.sex,
        scanner=row.scanner,
        location=row.location,
    )


def _provenance(folder: ReplayFolder, settings: ReplaySettings, cohort: CohortSettings) -> dict[str, str]:
    packages = ("fedmidline", "flwr", "torch", "monai", "pyradiomics", "SimpleITK", "antspyx", "scikit-learn", "numpy")
    return {
        "protocol": folder.protocol.name,
        "protocol fingerprint": folder.protocol.fingerprint(),
        "feature fingerprint": folder.protocol.feature_fingerprint(),
        "seed": str(folder.protocol.seed),
        "cohort": json.dumps(cohort.as_dict()),
        "engine": settings.engine,
        "partition": settings.partition,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
