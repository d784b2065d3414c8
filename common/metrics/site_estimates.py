"""site_estimates: what each site says of the model, as an estimate with its error on a scale that can be pooled.

    logit_auc     AUC; at AUC 0 or 1 half a pair is taken away and Hanley and McNeil's error used
    log_oe        observed over expected, log
    slope         calibration slope as it is                      (scales: Snell et al. 2018, doi 10.1177/0962280217705678)
    auc_difference  of two scores on the same cases, as it is

Disclosure: these are per-site results.  A site below `min_cases` (10) of a class is refused `small-cells`, and
shown as withheld; `meta_analysis` pools the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import Refused
from common.metrics import paired_delong, roc_cells
from common.metrics.auc_interval import logit_auc as to_logit
from common.metrics.calibration_line import CalibrationLine
from common.metrics.calibration_table import CalibrationTable
from common.metrics.score_cells import ScoreCells

__all__ = ["MIN_CASES", "SiteEstimate", "auc_difference", "log_oe", "logit_auc", "slope"]

MIN_CASES = 10


@dataclass(frozen=True)
class SiteEstimate:
    """value and its standard error, of one site."""

    site: str
    value: float
    error: float


def logit_auc(site: str, cells: ScoreCells, *, min_cases: int = MIN_CASES) -> SiteEstimate:
    """Refused `small-cells`; a class without a case is one of them."""
    altered, others = cells.cases
    _require_cells(site, min(altered, others), min_cases)
    value, error = to_logit(roc_cells.auc(cells).auc, roc_cells.delong_error(cells), altered, others)
    return SiteEstimate(site, value, error)


def log_oe(site: str, table: CalibrationTable, *, min_cases: int = MIN_CASES) -> SiteEstimate:
    """Refused `small-cells`."""
    altered, cases = int(table.altered.sum()), int(table.cases.sum())
    _require_cells(site, min(altered, cases - altered), min_cases)
    found = table.observed_expected()
    return SiteEstimate(site, found.log_ratio, found.error)


def slope(site: str, line: CalibrationLine) -> SiteEstimate:
    """Of a line that was fitted on this site's cases; its own refusals come before."""
    return SiteEstimate(site, line.slope, line.slope_error)


def auc_difference(
    site: str, paired: paired_delong.PairedAucs, first: str, second: str, *, min_cases: int = MIN_CASES
) -> SiteEstimate:
    """AUC of the first score minus that of the second.

    Refused `small-cells`; `difference-without-error`, also for two scores that rank alike, which would
    weigh without limit.
    """
    _require_cells(site, min(paired.altered, paired.not_altered), min_cases)
    found = paired_delong.difference(paired, first, second)
    if found.error == 0:
        raise Refused(
            "difference-without-error",
            field=f"{first}, {second}",
            site=site,
            problem="The two scores rank the cases of this site alike.",
            fix="Leave the site out of the pooled difference and say so.",
        )
    return SiteEstimate(site, found.difference, found.error)


def _require_cells(site: str, smallest: int, min_cases: int) -> None:
    if smallest < min_cases:
        raise Refused(
            "small-cells",
            field="cases per class",
            site=site,
            problem=f"A class has fewer than {min_cases} cases, so the site's own result is withheld.",
            fix="Collect more cases; the site still counts in pooled sums.",
        )
