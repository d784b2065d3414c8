"""site_pooling: each site's own figure of a score, or why it is withheld, and what random effects make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.special import expit, logit

from common.errors import InputError, StudyError
from common.metrics import calibration_line, calibration_table, meta_analysis, roc_cells, score_cells, site_estimates

__all__ = ["Part", "calibration_by_site", "pool_estimates", "sites_pooled"]

Part = tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]
"""(margins, altered) of one site's cases."""
WITHIN = 1.959963984540054
"""Standard errors on either side, 95 %."""


def sites_pooled(sites: Mapping[str, score_cells.ScoreCells], *, min_cell: int) -> dict[str, Any]:
    """Each site's AUC with its interval (or why it is withheld), and their random-effects summary."""
    return _pooled(
        sites,
        lambda name: site_estimates.logit_auc(name, sites[name], min_cases=min_cell),
        lambda name, _: {"auc": roc_cells.auc(sites[name]).auc, "cases": list(sites[name].cases)},
        expit,
    )


def calibration_by_site(parts: Mapping[str, Part], *, min_cell: int) -> dict[str, Any]:
    """Observed over expected (pooled as its log) and the calibration slope (as it is) of each site, and their
    random-effects summaries (Snell et al. 2018).
    """

    def log_oe(name: str) -> site_estimates.SiteEstimate:
        return site_estimates.log_oe(name, calibration_table.summarise(*parts[name]), min_cases=min_cell)

    def slope(name: str) -> site_estimates.SiteEstimate:
        log_oe(name)  # a site too small for the one is too small for the other
        return site_estimates.slope(name, calibration_line.fit_sites([parts[name]]))

    return {
        "observed_over_expected": _pooled(parts, log_oe, lambda _, value: {"ratio": value}, np.exp),
        "slope": _pooled(parts, slope, lambda _, value: {"slope": value}, _as_it_is),
    }


def pool_estimates(
    sites: Sequence[str],
    estimates: np.ndarray[Any, np.dtype[np.float64]],
    errors: np.ndarray[Any, np.dtype[np.float64]],
    *,
    scale: Literal["raw", "auc", "ratio"],
    method: Literal["reml", "dl"],
) -> dict[str, Any]:
    """Random effects on the scale where estimates are normal; told on the scale they came on."""
    if scale == "auc" and not ((estimates > 0) & (estimates < 1)).all():
        raise InputError(
            "auc-out-of-range",
            field="estimate",
            problem="An AUC is not between 0 and 1.",
            fix="Take half a pair away from an AUC of exactly 0 or 1, or choose another scale.",
        )
    if scale == "ratio" and not (estimates > 0).all():
        raise InputError("ratio-not-positive", field="estimate", problem="A ratio is not positive.", fix="Mend it.")
    back: Any = _as_it_is
    values, slope = estimates, np.ones_like(estimates)
    if scale == "auc":
        values, slope, back = logit(estimates), 1 / (estimates * (1 - estimates)), expit
    elif scale == "ratio":
        values, slope, back = np.log(estimates), 1 / estimates, np.exp
    rows = zip(sites, values, errors * slope, strict=True)
    found = meta_analysis.random_effects(
        [site_estimates.SiteEstimate(str(s), float(v), float(e)) for s, v, e in rows], method=method
    )
    return {"scale": scale, "method": method, **_summary(found, back)}


def _as_it_is(value: Any) -> Any:
    return value


def _summary(found: meta_analysis.MetaAnalysis, back: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        "estimate": float(back(found.estimate)),
        "interval_95": [float(back(x)) for x in found.interval],
        "prediction_95": None if found.prediction is None else [float(back(x)) for x in found.prediction],
        "tau2": found.tau2,
        "q": found.q,
        "q_p": found.q_p,
        "i2": found.i2,
        "weights": dict(zip(found.sites, found.weights, strict=True)),
    }


def _pooled(
    sites: Iterable[str],
    estimate: Callable[[str], site_estimates.SiteEstimate],
    describe: Callable[[str, float], dict[str, Any]],
    back: Callable[[Any], Any],
) -> dict[str, Any]:
    """describe: name and the estimate on its own scale -> what is shown; back: from the scale that is pooled."""
    shown: dict[str, Any] = {}
    estimates = []
    for name in sorted(sites):
        try:
            found = estimate(name)
        except StudyError as error:
            shown[name] = {"withheld": error.code}
            continue
        if not np.isfinite(found.value):
            shown[name] = {"withheld": "estimate-not-finite"}
            continue
        estimates.append(found)
        interval = [float(back(found.value + z * found.error)) for z in (-WITHIN, WITHIN)]
        shown[name] = {**describe(name, float(back(found.value))), "interval_95": interval}
    pooled = _summary(meta_analysis.random_effects(estimates), back) if estimates else {"refused": "no-site-to-pool"}
    return {"sites": shown, "pooled": pooled}
