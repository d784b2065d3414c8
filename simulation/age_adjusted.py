"""age_adjusted: what is left of a score when age cannot help it (METHOD section 4, rank 3; F10): children are all altered
here, so a model that sees nothing but age looks good.

age-adjusted   each case against cases that are not altered of its own age (`adjusted_roc`)
weighted       both classes weighted to the same ages (`weighted_roc`), by the age model of the training cases
adults         cases of 18 years and more
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common.errors import StudyError
from common.metrics import adjusted_roc, roc_cells, weighted_roc
from common.metrics.score_cells import ScoreCells
from common.stats import logistic
from simulation.clinical import AGE, SiteTables

__all__ = ["adjust_for_age"]

ADULT = 18

Margins = Sequence[np.ndarray[Any, np.dtype[np.float64]]]


def adjust_for_age(sites: Sequence[SiteTables], margins: Margins) -> dict[str, Any]:
    """Figures of one score; margins: of each site's test cases; a figure that cannot be had is None, and
    `age_refused` says why.

    `age_effective_cases`: how many cases the overlap weights leave, altered and not.
    """
    ages = [site.test.columns((AGE,)).values for site in sites]
    flags = [site.test.altered for site in sites]
    age_model = logistic.fit_tables([site.training.columns((AGE,)) for site in sites], logistic.start((AGE,)))
    propensity = [age_model.margins(site.test) for site in sites]
    whole, altered = np.concatenate(margins), np.concatenate(flags)
    adults = np.concatenate(ages)[:, 0] >= ADULT

    def weighted(method: Any) -> weighted_roc.WeightedCells:
        lower = np.unique(whole)
        return weighted_roc.combine(
            [
                weighted_roc.summarise(m, a, weighted_roc.balancing_weights(p, a, method), lower, exact=True)
                for m, a, p in zip(margins, flags, propensity, strict=True)
            ]
        )

    def adjusted() -> dict[str, Any]:
        line = adjusted_roc.fit_sites(list(zip(margins, flags, ages, strict=True)))
        left = [adjusted_roc.residuals(line, m, a) for m, a in zip(margins, ages, strict=True)]
        return _auc(np.concatenate(left), altered)

    refused: dict[str, str] = {}

    def tried(name: str, figure: Callable[[], Any]) -> Any:
        try:
            return figure()
        except StudyError as error:
            refused[name] = error.code
            return None

    own = tried("age-adjusted", adjusted)
    grown = tried("adults", lambda: _auc(whole[adults], altered[adults]))
    others, cases = weighted("overlap").effective
    return {
        "age_adjusted_auc": own and own["auc"],
        "age_adjusted_95": own and own["interval"],
        "overlap_weighted_auc": tried("overlap", lambda: weighted_roc.finish(weighted("overlap")).auc),
        "inverse_weighted_auc": tried("inverse", lambda: weighted_roc.finish(weighted("inverse")).auc),
        "age_effective_cases": [cases, others],
        "adults_auc": grown and grown["auc"],
        "adults_95": grown and grown["interval"],
        "age_refused": refused,
    }


def _auc(margins: np.ndarray[Any, Any], altered: np.ndarray[Any, Any]) -> dict[str, Any]:
    cells = ScoreCells.of_scores(margins, altered)
    return {"auc": roc_cells.auc(cells).auc, "interval": list(roc_cells.logit_delong_interval(cells))}
