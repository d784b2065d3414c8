"""judgement: everything that can be said of a score from sums over sites, as plain values for a report.

What a site gives: counts per cell of the score, sums for calibration, counts at thresholds; its own AUC only with at
least `min_cell` cases of each class.  The report and `fedmidline-sim statistics evaluate` print it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import StudyError
from common.metrics import (
    calibration_in_the_large,
    calibration_line,
    calibration_table,
    decision_curve,
    rank_sum,
    roc,
    roc_cells,
    score_cells,
    score_search,
    van_elteren,
    within_site_auc,
)
from common.metrics.confusion import Confusion, confusion_at
from common.metrics.score_histogram import cells_of, summarise
from common.seeds import stream
from server.reporting.site_pooling import Part, calibration_by_site, sites_pooled

__all__ = ["calibration", "judge_scores", "net_benefit"]

MANY_CELLS = 10_000
"""Beyond it the bootstrap draws from the histogram, whose bound is then far below the interval's width."""
RISKS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def judge_scores(
    parts: Mapping[str, Part], *, cells: int, target_prevalence: float | None, min_cell: int, seed: int
) -> dict[str, Any]:
    """All sections; a figure that cannot be had is replaced by `{"refused": code}`."""
    ordered = [parts[name] for name in sorted(parts)]
    binned = cells_of(np.sum([summarise(m, a, cells=cells) for m, a in ordered], axis=0))
    exact = score_search.finish(score_search.search_scores(ordered, ties="all"))
    everyone = (np.concatenate([m for m, _ in ordered]), np.concatenate([a for _, a in ordered]))
    pooled = roc.auc(*everyone)
    from_histogram = roc_cells.auc(binned)
    return {
        "auc": roc_cells.auc(exact).auc,
        "largest_difference_to_pooled": abs(roc_cells.auc(exact).auc - pooled),
        "auc_from_histogram": {"auc": from_histogram.auc, "bound": from_histogram.half_width},
        "histogram_difference_to_pooled": abs(from_histogram.auc - pooled),
        "auc_logit_delong_95": _or_refused(lambda: roc_cells.logit_delong_interval(exact)),
        "auc_delong_error": _or_refused(lambda: roc_cells.delong_error(exact)),
        "auc_bootstrap_95": roc_cells.bootstrap_interval(
            exact if len(exact.lower) <= MANY_CELLS else binned, resamples=2000, rng=stream(seed, "bootstrap", "cells")
        ),
        "within_site_auc": within_site_auc.finish(
            within_site_auc.combine([within_site_auc.summarise(score_cells.ScoreCells.of_scores(*p)) for p in ordered])
        ),
        "at_0.5": _shares(sum((confusion_at(m, a) for m, a in ordered[1:]), confusion_at(*ordered[0]))),
        "rank_sum": _rank_sum(exact),
        "van_elteren": _or_refused(lambda: _van_elteren(ordered)),
        "calibration": calibration(ordered),
        "net_benefit": _or_refused(lambda: net_benefit(ordered, target_prevalence)),
        "by_site": sites_pooled(
            {name: score_cells.ScoreCells.of_scores(*part) for name, part in parts.items()}, min_cell=min_cell
        ),
        "calibration_by_site": calibration_by_site(parts, min_cell=min_cell),
    }


def calibration(parts: Sequence[Part]) -> dict[str, Any]:
    """In the large, line, Brier, ECE and O/E; slope 1, intercept 0 and O/E 1 are ideal."""
    table = calibration_table.combine([calibration_table.summarise(*part) for part in parts])
    return {
        "in_the_large": _or_refused(lambda: _fields(calibration_in_the_large.fit_sites(parts), "intercept", "error")),
        "line": _or_refused(
            lambda: _fields(calibration_line.fit_sites(parts), "intercept", "slope", "intercept_error", "slope_error")
        ),
        "brier": table.brier,
        "expected_calibration_error": table.expected_calibration_error,
        "observed_over_expected": _or_refused(lambda: _fields(table.observed_expected(), "ratio", "interval")),
        "bins": [
            {"from": float(low), "cases": int(n), "altered": int(k), "mean_risk": float(p / n) if n else None}
            for low, n, k, p in zip(table.lower, table.cases, table.altered, table.predicted, strict=True)
        ],
    }


def net_benefit(parts: Sequence[Part], target_prevalence: float | None) -> dict[str, Any]:
    """At thresholds of the risk P(altered), at the cohort's prevalence or the clinic's."""
    counts = decision_curve.combine([decision_curve.summarise(m, a, RISKS) for m, a in parts])
    curve = decision_curve.finish(counts, target_prevalence=target_prevalence)
    return {
        "prevalence": curve.prevalence,
        "risk": list(curve.thresholds),
        "score": curve.score.tolist(),
        "act_on_all": curve.act_on_all.tolist(),
    }


def _shares(counts: Confusion) -> dict[str, Any]:
    return {
        **_fields(counts, "tp", "fn", "tn", "fp", "sensitivity", "specificity", "accuracy"),
        "exact_95": counts.intervals(),
    }


def _rank_sum(cells: score_cells.ScoreCells) -> dict[str, float]:
    return _fields(rank_sum.rank_sum_of_cells(cells), "u", "z", "p")


def _van_elteren(parts: Sequence[Part]) -> dict[str, float]:
    sums = [van_elteren.summarise(score_cells.ScoreCells.of_scores(*part)) for part in parts]
    return _fields(van_elteren.finish(van_elteren.combine(sums)), "z", "p")


def _fields(value: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _or_refused(figure: Callable[[], Any]) -> Any:
    """A figure, or why there is none."""
    try:
        return figure()
    except StudyError as error:
        return {"refused": error.code}
