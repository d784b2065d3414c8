"""load_cohort: the manifest's cases that are prepared, harmonised as the request says, for every task that answers.

A site keeps nothing between messages, so the shifts of its own scanners are fitted here each time, from training
cases only; it takes milliseconds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from client.case import CaseRow
from client.ingest.manifest import read_manifest
from client.site import Site
from client.store.cohort import FeatureRepeats, SiteCohort, assemble_cohort, read_repeats
from client.tasks.case_keys import feature_keys
from common.config.harmonisation import Covariate
from common.errors import Refused
from common.messages.harmoniser import Harmoniser
from common.stats import moments
from common.stats.combat import BatchDesign, apply_shifts, fit_own_batches
from common.stats.standardiser import from_moments

__all__ = ["case_design", "load_cohort", "load_repeats"]


def load_cohort(site: Site, harmoniser: Harmoniser | None = None, *, visual: bool = True) -> SiteCohort:
    """Training and test view; without the visual maps where a task does not need them.

    harmoniser: None for features as they were extracted.
    """
    cohort = _as_extracted(site, visual=visual)
    if harmoniser is None or harmoniser.method == "none":
        return cohort
    if harmoniser.method == "site_zscore":
        own = from_moments(moments.of_one_site(cohort.training.table))
        return _with_values(cohort, own.apply(cohort.training.table.values), own.apply(cohort.test.table.values))
    location, settings = harmoniser.location(), site.protocol.harmonisation
    train, test = (case_design(site, view.pseudonyms) for view in (cohort.training, cohort.test))
    shifts = fit_own_batches(cohort.training.table, train, location, settings, harmoniser.shifts())
    return _with_values(
        cohort,
        apply_shifts(cohort.training.table.values, train, location, shifts),
        apply_shifts(cohort.test.table.values, test, location, shifts),
    )


def load_repeats(site: Site) -> FeatureRepeats:
    """Repeated measurements of the training cases, as they were extracted."""
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    return read_repeats(rows, feature_keys(rows, site), site.settings, site.protocol)


def _as_extracted(site: Site, *, visual: bool) -> SiteCohort:
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    return assemble_cohort(rows, feature_keys(rows, site), site.settings, site.protocol, visual=visual)


def _with_values(cohort: SiteCohort, training: np.ndarray, test: np.ndarray) -> SiteCohort:
    return SiteCohort(
        replace(cohort.training, table=cohort.training.table.with_values(training)),
        replace(cohort.test, table=cohort.test.table.with_values(test)),
    )


def case_design(site: Site, pseudonyms: tuple[str, ...]) -> BatchDesign:
    """Batches and covariates of these cases, as the protocol's harmonisation wants them.

    Refused `covariate-missing` or `scanner-missing` when a case has none; the site's log names the cases.
    """
    settings = site.protocol.harmonisation
    rows = {row.pseudonym: row for row in read_manifest(site.settings.manifest, site=site.settings.name)}
    cases = [rows[pseudonym] for pseudonym in pseudonyms]
    covariates = np.array([[_covariate(row, c) for c in settings.covariates] for row in cases], dtype=float)
    covariates = covariates.reshape(len(cases), len(settings.covariates))
    for column, name in enumerate(settings.covariates):
        absent = [row.pseudonym for row, value in zip(cases, covariates[:, column], strict=True) if np.isnan(value)]
        if absent:
            raise _missing("covariate-missing", name, absent, site)
    absent = [row.pseudonym for row in cases if settings.batch != "site" and not row.scanner]
    if absent:
        raise _missing("scanner-missing", "scanner", absent, site)
    batch = tuple(_batch(row, site) for row in cases)
    return BatchDesign(batch, covariates, tuple(settings.covariates))


def _batch(row: CaseRow, site: Site) -> str:
    """What ComBat takes for one batch."""
    names = {
        "site": site.settings.name,
        "scanner": row.scanner,
        "site_and_scanner": f"{site.settings.name}: {row.scanner}",
    }
    return names[site.protocol.harmonisation.batch]


def _covariate(row: CaseRow, name: Covariate) -> float:
    """Years; 0 for female and 1 for male; NaN where the manifest is silent."""
    if name == "age":
        return np.nan if row.age_years is None else row.age_years
    return {"female": 0.0, "male": 1.0}.get(row.sex, np.nan)


def _missing(code: str, what: str, pseudonyms: list[str], site: Site) -> Refused:
    return Refused(
        code,
        site=site.settings.name,
        field="age_years" if what == "age" else what,
        problem=f"Some cases have no {what}, which the protocol's harmonisation needs.",
        fix=f"Fill the manifest's column, exclude the cases, or agree on a protocol without {what}.",
        local=", ".join(pseudonyms),
    )
