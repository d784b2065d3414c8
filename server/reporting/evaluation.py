"""evaluation: an arm's scores turned into the figures that a reader expects."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.metrics import roc_cells
from common.metrics.confusion import confusion_at
from common.metrics.group_tests import rank_sum
from common.metrics.roc import auc, bootstrap_interval, logit_delong_interval, within_site_auc
from common.metrics.score_cells import ScoreCells
from common.metrics.score_histogram import cells_of
from common.metrics.score_histogram import view as histogram_view
from common.metrics.site_estimates import MIN_CASES
from common.seeds import stream
from server.reporting.content import ArmScores
from server.reporting.site_pooling import sites_pooled
from server.state import StudyState

__all__ = ["evaluate_arm", "retraining_view", "safety", "server_view"]


def safety(margins: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Safety scores of margins."""
    return np.asarray(1 / (1 + np.exp(-np.clip(margins, -700, 700))))


def evaluate_arm(arm: ArmScores, view: str, *, threshold: float, resamples: int, seed: int) -> dict[str, Any]:
    """AUC with both intervals, within-site AUC, shares with exact intervals, medians, rank-sum."""
    margins, altered = arm.margins[view], arm.altered[view]
    confusion = confusion_at(margins, altered, threshold=threshold)
    ranks = rank_sum(margins[altered], margins[~altered])
    scores = safety(margins)
    quartiles = {
        name: [float(v) for v in np.quantile(scores[which], (0.25, 0.5, 0.75))]
        for name, which in (("altered", altered), ("not_altered", ~altered))
    }
    return {
        "cases": len(margins),
        "auc": auc(margins, altered),
        "auc_bootstrap_95": bootstrap_interval(
            margins, altered, resamples=resamples, rng=stream(seed, "bootstrap", arm.name, view)
        ),
        "auc_logit_delong_95": logit_delong_interval(margins, altered),
        "within_site_auc": within_site_auc(margins, altered, arm.sites[view]),
        "confusion": {"tp": confusion.tp, "fn": confusion.fn, "tn": confusion.tn, "fp": confusion.fp},
        "sensitivity": confusion.sensitivity,
        "specificity": confusion.specificity,
        "accuracy": confusion.accuracy,
        "exact_95": confusion.intervals(),
        "safety_quartiles": quartiles,
        "rank_sum": {"u": ranks.u, "z": ranks.z, "p": ranks.p},
    }


def server_view(state: StudyState) -> dict[str, Any]:
    """What the coordinator can tell without a score, by set: the AUC within its guaranteed half-width, or exactly where
    the protocol agreed to that; and each site's where ten cases of each class hide the single one.
    """
    seen: dict[str, Any] = {}
    histograms = state.histograms
    for name, counts in histograms.items():
        found = histogram_view(counts)
        seen[name] = {
            "auc": found.auc,
            "half_width": found.half_width,
            "sensitivity": found.confusion.sensitivity,
            "specificity": found.confusion.specificity,
        }
    if "test" in seen:
        seen["test"]["by_site"] = sites_pooled(
            {site: cells_of(counts) for site, counts in state.site_histograms.items()}, min_cell=MIN_CASES
        )
    if state.score_cells:
        cells = ScoreCells(**state.score_cells, exact=True)
        seen["test"]["exact_auc"] = roc_cells.auc(cells).auc
        seen["test"]["exact_auc_logit_delong_95"] = roc_cells.logit_delong_interval(cells)
    return seen


def retraining_view(state: StudyState) -> dict[str, Any]:
    """Before and after, where the study went on from a released model: each site's test cases under the released and
    the new model, withheld below ten cases of a class, and all of them together.
    """
    if state.origin is None or not state.before or not state.site_histograms:
        return {}
    found: dict[str, Any] = {"origin": state.origin.model_dump(), "pooled": {}, "sites": {}}
    for word, counts in (("before", state.before), ("after", state.site_histograms)):
        pooled = histogram_view(np.sum([counts[site] for site in sorted(counts)], axis=0))
        found["pooled"][word] = {"auc": pooled.auc, "half_width": pooled.half_width}
        cells = {site: cells_of(part) for site, part in counts.items()}
        for site, shown in sites_pooled(cells, min_cell=MIN_CASES)["sites"].items():
            found["sites"].setdefault(site, {})[word] = shown
    return found
