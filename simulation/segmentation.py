"""segmentation: the segmentation network trained federated, on pooled data and at each site alone, on one synthetic cohort.

    cohort -> split -> images -> partition -> federated study -> pooled, each alone -> Dice and HD95 of every arm

Every arm makes the same number of passes over its cases and is judged on the same test cases of all sites.  Everything
lies in one folder; every step that is finished is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from client.segment.weights import load_network, network_of
from client.site import Site, open_site
from client.tasks.segment_cases import prepare_images, segment_cases
from client.tasks.segment_evaluate import CaseScore, score_segmentation, summary
from client.tasks.segment_train import installed_weights, train_alone
from common.config.protocol import Protocol
from common.errors import InputError
from server.reporting.segmentation_files import segmentation_figures, write_segmentation
from simulation.arms import require_every_site
from simulation.cohort.make_cohort import CohortSettings, make_cohort
from simulation.replay import ReplayFolder, ReplaySettings, build_sites, federate, single_centre
from simulation.run_replay import Progress

__all__ = ["run_segmentation"]

FEDERATED, POOLED = "federated", "pooled"


def run_segmentation(
    out: Path,
    protocol: Protocol,
    settings: ReplaySettings,
    cohort: CohortSettings,
    *,
    workers: int,
    alone: bool = True,
    progress: Progress,
) -> dict[str, Any]:
    """All arms; writes segmentation.json and weights/segmentation.safetensors, and returns the former.

    alone: whether each site is also trained alone.  Seconds are of this call: what was done before took none.
    """
    folder = ReplayFolder(out, protocol, out / "cache", study_name="segmentation")
    with folder.timed("cohort"):
        progress.stage("making the synthetic cohort")
        manifest = make_cohort(
            out / "cohort", cohort, workers=workers, progress=lambda done, n: progress.step(done, n, "heads")
        )
    everyone = single_centre(folder, manifest, workers=workers)
    with folder.timed("images"):
        progress.stage("preparing images: register, strip, z-score")
        _prepare(everyone, lambda done, n: progress.step(done, n, "cases"))
    sites = build_sites(folder, settings, everyone.settings.manifest)
    with folder.timed(FEDERATED):
        progress.stage("federated training: rounds")
        state = federate(folder, sites, settings, trains="segmentation", notify=progress.exchange)
    require_every_site(state)
    weights = write_segmentation(out / "weights", state)
    scores = {FEDERATED: _scored(everyone, network_of(state.weights, protocol.segmentation.network, name=FEDERATED))}
    rivals = {POOLED: everyone, **({f"{name} alone": open_site(path) for name, path in sites.items()} if alone else {})}
    for name, site in rivals.items():
        with folder.timed(name):
            progress.stage(f"training: {name}")
            network = _trained(site, name.replace(" ", "-"), progress)
        scores[name] = _scored(everyone, network)
    result = {
        **segmentation_figures(state),
        "test_cases": len(scores[FEDERATED]),
        "arms": {name: _told(held) for name, held in scores.items()},
        "federated_minus_pooled": _told(scores[FEDERATED])["dice_mean"] - _told(scores[POOLED])["dice_mean"],
        "uncertainty_with_dice": _rank_correlation(scores[FEDERATED]),
        "weights": str(weights),
        "seconds": folder.timings,
    }
    (out / "segmentation.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _prepare(site: Site, progress: Callable[[int, int], None]) -> None:
    """All of them: an arm must not lack a case that another has."""
    aside = [one for one in prepare_images(site, segment_cases(site), progress=progress) if one.status != "ready"]
    if aside:
        raise InputError(
            "cases-set-aside",
            field="cohort",
            problem=f"{len(aside)} case(s) of the cohort could not be prepared ({aside[0].code}).",
            fix=aside[0].cure,
            local=", ".join(one.pseudonym for one in aside),
        )


def _trained(site: Site, name: str, progress: Progress) -> Any:
    """Trained at this site alone; a run that was stopped goes on."""
    settings = site.protocol.segmentation.model_copy(update={"weights": name, "weights_sha256": ""})
    folder = installed_weights(site)
    if not (folder / f"{name}.safetensors").exists():
        train_alone(site, name, progress=lambda done, of, loss: progress.step(done, of, f"loss {loss:.3f}"))
    return load_network(settings, device="cpu", installed=folder)


def _scored(everyone: Site, network: Any) -> list[CaseScore]:
    """On the test cases of all sites."""
    return score_segmentation(everyone, [case for case in segment_cases(everyone) if case.test], network)


def _told(scores: Sequence[CaseScore]) -> dict[str, Any]:
    told = summary(scores, site="everyone").model_dump(exclude={"site", "schema_version"})
    return {**told, "dice_lowest": min(score.dice for score in scores)}


def _rank_correlation(scores: Sequence[CaseScore]) -> float | None:
    """Spearman's, between uncertainty and Dice: clearly below zero where uncertain cases are the badly drawn ones."""
    pairs = np.array([(s.uncertainty, s.dice) for s in scores if np.isfinite(s.uncertainty)])
    if len(pairs) < 3 or (np.ptp(pairs, axis=0) == 0).any():
        return None
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
