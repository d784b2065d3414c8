"""evaluation: an arm's scores turned into the figures that a reader expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.metrics.confusion import confusion_at
from common.metrics.group_tests import rank_sum
from common.metrics.roc import auc, bootstrap_interval, logit_delong_interval, within_site_auc
from common.metrics.score_histogram import view as histogram_view
from common.seeds import stream
from server.reporting.content import ArmScores

__all__ = ["evaluate_arm", "safety", "server_view"]


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


def server_view(histograms: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, dict[str, float]]:
    """What the summed histograms tell, by set; the AUC within its guaranteed half-width."""
    seen = {}
    for name, counts in histograms.items():
        found = histogram_view(counts)
        seen[name] = {
            "auc": found.auc,
            "half_width": found.half_width,
            "sensitivity": found.confusion.sensitivity,
            "specificity": found.confusion.specificity,
        }
    return seen
