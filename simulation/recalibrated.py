"""recalibrated: what a hospital gains that corrects the risks of a model it did not train, from its own training cases
(METHOD section 4, rank 4), judged on its test cases.

none        risks as the model gives them
intercept   one shift per site
logistic    shift and slope per site

The order of a site's cases stays, so its AUC does too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from common.errors import StudyError
from common.metrics import recalibration
from common.metrics.recalibration import TrainingScores
from server.reporting.judgement import calibration
from server.reporting.site_pooling import Part, calibration_by_site

__all__ = ["compare_recalibrations"]

METHODS: tuple[Literal["intercept", "logistic"], ...] = ("intercept", "logistic")


def compare_recalibrations(
    training: Mapping[str, TrainingScores], test: Mapping[str, Part], *, min_cell: int
) -> list[dict[str, Any]]:
    """One row per way: calibration of all test cases, and by site with the pooled log O/E.

    training: scores of cases that the model has not seen either.  `kept`: sites whose training cases allow no
    correction, with the code; their risks stay as they are.
    """
    rows = [_row("none", test, {}, min_cell)]
    for method in METHODS:
        corrected, kept = dict(test), {}
        for site, (margins, altered) in sorted(test.items()):
            try:
                correction = recalibration.fit([training[site]], method)
            except StudyError as error:
                kept[site] = error.code
                continue
            corrected[site] = (np.asarray(recalibration.apply(correction, margins)), altered)
        rows.append(_row(method, corrected, kept, min_cell))
    return rows


def _row(method: str, parts: Mapping[str, Part], kept: Mapping[str, str], min_cell: int) -> dict[str, Any]:
    found = calibration([parts[site] for site in sorted(parts)])
    figures = ("in_the_large", "line", "brier", "observed_over_expected")
    return {
        "recalibration": method,
        "kept": dict(kept),
        **{name: found[name] for name in figures},
        "by_site": calibration_by_site(parts, min_cell=min_cell),
    }
