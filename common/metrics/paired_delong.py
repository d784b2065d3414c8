"""paired_delong: are two scores of the same cases equally good (DeLong et al. 1988, doi 10.2307/2531595)?

The errors of two AUCs on the same cases are correlated; the correlation needs both scores of a case together,
so it is computed where the case is.  A site gives AUCs and their covariance; differences are pooled over
sites by `meta_analysis` and P values of several comparisons adjusted by `multiplicity`.

Law: one score's variance equals `roc.delong_error` squared; the order of cases and of scores does not matter.
Disclosure: a site's AUC, to be opened only with at least `min_cases` (10) cases of each class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from common.arrays import CaseFlags
from common.errors import Refused
from common.metrics.confusion import require_both_classes, require_finite_scores
from common.metrics.roc import placements
from common.metrics.score_cells import Floats

__all__ = ["AucDifference", "PairedAucs", "difference", "summarise"]


@dataclass(frozen=True)
class PairedAucs:
    """names: of the scores; auc: one each; covariance: DeLong's; altered, not_altered: cases."""

    names: tuple[str, ...]
    auc: Floats
    covariance: Floats
    altered: int
    not_altered: int


@dataclass(frozen=True)
class AucDifference:
    """difference: first minus second; error: its standard error; interval: 95 %; p two-sided."""

    difference: float
    error: float
    z: float
    p: float
    interval: tuple[float, float]


def summarise(names: tuple[str, ...], margins: Floats, altered: CaseFlags) -> PairedAucs:
    """Runs in the hospital; margins: (cases, scores), low means altered.

    Refused `one-class-only`, or `too-few-per-class` below two cases of a class: no covariance.
    """
    if margins.shape != (len(altered), len(names)):
        raise ValueError(f"margins of shape {margins.shape} for {len(names)} scores of {len(altered)} cases")
    for column in margins.T:
        require_finite_scores(column, altered)
    n, m = int(altered.sum()), int((~altered).sum())
    require_both_classes(n, m)
    if min(n, m) < 2:
        raise Refused(
            "too-few-per-class",
            field="label",
            problem="One case of a class has no spread, so scores cannot be compared.",
            fix="Compare at sites with at least two cases of each class.",
        )
    columns = [placements(column[altered], column[~altered]) for column in margins.T]
    by_altered, by_other = (np.stack(shares, axis=1) for shares in zip(*columns, strict=True))
    covariance = np.atleast_2d(np.cov(by_altered, rowvar=False)) / n + np.atleast_2d(np.cov(by_other, rowvar=False)) / m
    return PairedAucs(names, by_altered.mean(axis=0), covariance, n, m)


def difference(paired: PairedAucs, first: str, second: str) -> AucDifference:
    """First minus second.  Two equal scores differ by 0 with p 1.

    Refused `difference-without-error` where both scores rank without any overlap, yet differently: DeLong's
    error is 0 there and says nothing.
    """
    i, j = paired.names.index(first), paired.names.index(second)
    step = float(paired.auc[i] - paired.auc[j])
    cov = paired.covariance
    error = float(np.sqrt(max(cov[i, i] + cov[j, j] - 2 * cov[i, j], 0.0)))
    if error < 1e-12:
        if abs(step) > 1e-12:
            raise Refused(
                "difference-without-error",
                field=f"{first}, {second}",
                problem="The two AUCs differ but DeLong's error of the difference is 0.",
                fix="Compare on more cases.",
            )
        return AucDifference(0.0, 0.0, 0.0, 1.0, (0.0, 0.0))
    z = step / error
    reach = 1.959963984540054 * error
    return AucDifference(step, error, z, float(2 * stats.norm.sf(abs(z))), (step - reach, step + reach))
