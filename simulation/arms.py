"""arms: the federated study's scores, and what pooled data or one hospital alone would have got.

Only a simulation may put these side by side: it reads the scores that each virtual hospital keeps.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.site import open_site
from client.store.cohort import ScoredCases, SiteCohort
from client.tasks.evaluate import scores_file
from client.training.score import safety_margins
from common.config.protocol import Protocol
from common.errors import Refused
from common.messages.model import ModelState
from server.reporting.content import ArmScores, LawCheck
from server.state import StudyState
from simulation.oracle import Oracle

__all__ = ["compare_with_oracle", "federated_arm", "require_every_site", "scored_arm"]


def require_every_site(state: StudyState) -> None:
    """Refused `site-left-out`: the other arms hold every site's cases, so a study without one has no equal."""
    last = state.exchanges[-1]
    out = {site: last.codes.get(site, status) for site, status in last.roster.items() if status != "contributed"}
    if out:
        raise Refused(
            "site-left-out",
            field="sites",
            problem="The study ended without "
            + ", ".join(f"{site} ({code})" for site, code in sorted(out.items()))
            + ".",
            fix="Give every site enough cases of both classes: more cases, fewer sites, another partition, or a lower "
            "federation.min_cases in the protocol; then begin in a new folder.",
        )


def federated_arm(sites: Mapping[str, Path], study: str, losses: tuple[float, ...]) -> ArmScores:
    """The margins that the hospitals wrote for themselves in the last phase."""
    margins: dict[str, list[float]] = {"train": [], "test": []}
    altered: dict[str, list[bool]] = {"train": [], "test": []}
    owners: dict[str, list[str]] = {"train": [], "test": []}
    for name, path in sorted(sites.items()):
        with scores_file(open_site(path), study).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                margins[row["set"]].append(float(row["safety_margin"]))
                altered[row["set"]].append(row["altered"] == "1")
                owners[row["set"]].append(name)
    return ArmScores(
        "federated",
        "all sites together, no image or case leaves a site",
        {view: np.array(values) for view, values in margins.items()},
        {view: np.array(values, dtype=bool) for view, values in altered.items()},
        {view: tuple(names) for view, names in owners.items()},
        losses,
    )


def scored_arm(
    name: str, description: str, oracle: Oracle, everyone: SiteCohort, owner: Mapping[str, str], protocol: Protocol
) -> ArmScores:
    """All cases scored with one model; `owner` says whose each pseudonym is."""
    views: dict[str, ScoredCases] = {"train": everyone.training, "test": everyone.test}
    return ArmScores(
        name,
        description,
        {view: _margins(cases, oracle.model, protocol) for view, cases in views.items()},
        {view: cases.table.altered for view, cases in views.items()},
        {view: tuple(owner[p] for p in cases.pseudonyms) for view, cases in views.items()},
        oracle.losses,
    )


def compare_with_oracle(state: StudyState, oracle: Oracle, exact: tuple[StudyState, Oracle]) -> tuple[LawCheck, ...]:
    """The largest difference in every quantity that must agree.

    exact: the same study and oracle with one full-batch gradient step per round.
    """
    # Where noise hides scale and choice, the exact study, which is without it, shows that the sums are right.
    moments = state.moments if state.protocol.privacy.statistics is None else exact[0].moments
    selection = exact[0].selection if state.protocol.selection.method == "votes" else state.selection
    if moments is None or selection is None:
        raise ValueError("the study is not finished")
    scale = oracle.radiomics_deviation
    fixed = state.protocol.selection.method == "fixed_signature"
    anova = state.protocol.selection.method == "anova_f"
    score = "F of every feature, relative" if anova else "mutual information of every feature, nats"
    scale_of_scores = np.maximum(np.abs(oracle.scores), 1e-12) if anova else 1.0
    differing = set(selection.signature) ^ set(oracle.model.signature)
    return (
        LawCheck("mean of every radiomics feature, in its SD", _largest(moments.radiomics_mean - oracle.radiomics_mean, scale), 1e-10),
        LawCheck("SD of every radiomics feature, relative", _largest(moments.radiomics_deviation - scale, scale), 1e-10),
        LawCheck("mean of every visual feature", _largest(moments.visual_mean - oracle.model.visual_mean), 1e-5, "single precision"),
        LawCheck(score, 0.0 if fixed else _largest(selection.scores - oracle.scores, scale_of_scores), 1e-9 if anova else 1e-12, "against scipy" if anova else "against scikit-learn"),
        LawCheck("features in one signature only", float(len(differing)), 0.0),
        LawCheck("weights after one full-batch step per round", _weights(exact[0].weights, exact[1].model.weights), 1e-5, f"{exact[0].rounds_done} rounds of FedSGD, single precision"),
        LawCheck("weights after the study's own rounds", _weights(state.weights, oracle.model.weights), 1e-5 if state.protocol.training.strategy == "fedsgd" else None, "several local steps follow another path by construction: shown, not required"),
    )  # fmt: skip


def _margins(cases: ScoredCases, model: ModelState, protocol: Protocol) -> np.ndarray[Any, Any]:
    return safety_margins(cases.table, cases.visual, model, head=protocol.head, device="cpu")


def _largest(difference: np.ndarray[Any, Any], scale: np.ndarray[Any, Any] | float = 1.0) -> float:
    return float(np.max(np.abs(difference / scale)))


def _weights(ours: Mapping[str, np.ndarray[Any, Any]], theirs: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """Largest difference, relative to the largest weight of its array."""
    return max(_largest(ours[name] - theirs[name]) / max(float(np.abs(theirs[name]).max()), 1e-12) for name in theirs)
