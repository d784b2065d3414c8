"""sections: what a replay's report says beyond the arms; each needs cases side by side, as only a simulation has
them: comparators, harmonisers, the site left out, stability of the selection, the scores in depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.case import CaseRow
from client.site import open_site
from client.tasks.load_cohort import case_design, load_cohort
from common.metrics import subgroups, thresholds
from common.metrics.confusion import confusion_below
from common.metrics.score_cells import ScoreCells, TrainingCells
from server.reporting.content import ArmScores
from server.reporting.judgement import judge_scores
from server.reporting.site_pooling import Part
from server.state import StudyState
from simulation.ablation import AblationSite, compare_harmonisers
from simulation.clinical import age_group, clinical_tables
from simulation.ladder import climb
from simulation.leave_one_out import leave_one_site_out
from simulation.replay import ReplayFolder, ReplaySettings
from simulation.statistics.estimate import federated_stability
from simulation.variants import train_variants

__all__ = ["describe"]

RESAMPLES = 50
MIN_CELL = 5
"""Of a synthetic cohort, which has nothing to hide; a study with patients takes 10."""

Rows = Mapping[str, CaseRow]


def describe(
    folder: ReplayFolder,
    sites: Mapping[str, Path],
    settings: ReplaySettings,
    state: StudyState,
    arm: ArmScores,
    rows: Rows,
    *,
    stage: Callable[[str], None],
) -> dict[str, Any]:
    """Sections by name; arm: the federated one; rows: of all cases, by pseudonym."""
    protocol, selection = folder.protocol, state.selection
    if selection is None:
        raise ValueError("the study is not finished")
    stage("comparators and harmonisers")
    cohorts = {name: load_cohort(open_site(sites[name]), state.harmoniser) for name in sorted(sites)}
    tables = {name: clinical_tables(name, cohort, rows) for name, cohort in cohorts.items()}
    owners = np.asarray(arm.sites["test"])
    fused = {name: arm.margins["test"][owners == name] for name in cohorts}
    raw = []
    for name in sorted(sites):
        site = open_site(sites[name])
        cohort = load_cohort(site, visual=False)
        designs = [case_design(site, view.pseudonyms) for view in (cohort.training, cohort.test)]
        raw.append(AblationSite(name, cohort, *designs))
    found: dict[str, Any] = {
        "ladder": climb(
            list(tables.values()),
            selection.signature,
            fused,
            train_variants(state, cohorts, tables),
            k=protocol.selection.k,
        ),
        "ablation": compare_harmonisers(raw, protocol.harmonisation, k=protocol.selection.k),
        "stability": _stability(state, folder, {name: c.training.table for name, c in cohorts.items()}),
        "judgement": _judge(arm, protocol.seed),
        "thresholds": _thresholds(arm),
        "subgroups": _subgroups(arm, [rows[p] for c in cohorts.values() for p in c.test.pseudonyms]),
    }
    stage("leaving one site out")
    found["leave_one_site_out"] = leave_one_site_out(
        folder, sites, settings, tell=lambda name: stage(f"leaving one site out: {name}")
    )
    return found


def _stability(state: StudyState, folder: ReplayFolder, training: Mapping[str, Any]) -> dict[str, Any]:
    """Only where mutual information ranked the features; the edges are the study's own."""
    selection = state.selection
    if selection is None or selection.edges.shape[1] == 0:
        return {}
    protocol = folder.protocol
    stability = federated_stability(
        sorted(training.items()),
        selection.edges,
        k=protocol.selection.k,
        resamples=RESAMPLES,
        share=0.8,
        seed=protocol.seed,
    )
    names = next(iter(training.values())).names
    often = dict(zip(names, stability.frequency, strict=True))
    return {
        "resamples": RESAMPLES,
        "nogueira": stability.index,
        "interval_95": [stability.low, stability.high],
        "chosen_in": {name: float(often[name]) for name in selection.signature},
    }


def _judge(arm: ArmScores, seed: int) -> dict[str, Any]:
    owners = np.asarray(arm.sites["test"])
    parts: dict[str, Part] = {
        name: (arm.margins["test"][owners == name], arm.altered["test"][owners == name]) for name in sorted(set(owners))
    }
    return judge_scores(parts, cells=256, target_prevalence=None, min_cell=MIN_CELL, seed=seed)


def _thresholds(arm: ArmScores) -> list[dict[str, Any]]:
    """Chosen on training cases, applied to test cases."""
    training = TrainingCells.of_scores(arm.margins["train"], arm.altered["train"])
    half = thresholds.fixed()
    rules = [
        half,
        thresholds.youden(training),
        thresholds.at_sensitivity(training, 0.95),
        thresholds.prevalence_adjusted(half, training=thresholds.prevalence(training), site=0.3),
    ]
    names = (
        "0.5",
        "Youden's J on training cases",
        "sensitivity 0.95 on training cases",
        "0.5, for a prevalence of 0.3",
    )
    counts = [confusion_below(arm.margins["test"], arm.altered["test"], rule.margin) for rule in rules]
    return [
        {
            "rule": name,
            "safety_score": rule.safety_score,
            "sensitivity": found.sensitivity,
            "specificity": found.specificity,
            "accuracy": found.accuracy,
        }
        for name, rule, found in zip(names, rules, counts, strict=True)
    ]


def _subgroups(arm: ArmScores, cases: list[CaseRow]) -> dict[str, Any]:
    """AUC by age group, sex, scanner and location; small groups withheld by name."""
    levels = {
        "age group": [age_group(row.age_years) for row in cases],
        "sex": [row.sex for row in cases],
        "scanner": [row.scanner for row in cases],
        "location": [row.location for row in cases],
    }
    margins, altered = arm.margins["test"], arm.altered["test"]
    found = {}
    for variable, words in levels.items():
        here = np.asarray(words)
        cells = {
            level: ScoreCells.of_scores(margins[here == level], altered[here == level]) for level in sorted(set(words))
        }
        shown = subgroups.auc_by_subgroup(cells, min_cell=MIN_CELL)
        found[variable] = {
            level: {"auc": aucs.auc.auc, "interval_95": list(aucs.interval), "cases": [aucs.altered, aucs.not_altered]}
            for level, aucs in shown.shown.items()
        } | {level: {"withheld": reason} for level, reason in shown.withheld.items()}
    return found
