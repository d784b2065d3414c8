"""load_cohort: the manifest's cases that are prepared, harmonised as the request says, for every task that answers.

The shifts of the site's own scanners are fitted here, from training cases only, and never leave.  What they make of
the features is kept in the site's cache (client/store/harmonised_store.py) for the model's other messages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from client.case import CaseRow
from client.ingest.manifest import read_manifest
from client.site import Site
from client.store.cohort import (
    FeatureRepeats,
    Members,
    SiteCohort,
    assemble_cohort,
    find_members,
    read_radiomics,
    read_repeats,
)
from client.store.harmonised_store import HarmonisedStore
from client.tasks.case_keys import feature_keys
from common.arrays import CaseFlags, FeatureArray
from common.config.harmonisation import Covariate
from common.errors import Refused
from common.messages.harmoniser import Harmoniser
from common.stats import moments
from common.stats.combat import BatchDesign, apply_shifts, fit_own_batches
from common.stats.standardiser import from_moments
from common.tables import FeatureTable, split_table

__all__ = ["case_design", "load_cohort", "load_repeats"]


def load_cohort(site: Site, harmoniser: Harmoniser | None = None, *, visual: bool = True) -> SiteCohort:
    """Training and test view; without the visual maps where a task does not need them.

    harmoniser: None for features as they were extracted.
    """
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    members = find_members(rows, feature_keys(rows, site), site.settings, site.protocol)
    if harmoniser is None or harmoniser.method == "none":
        table = read_radiomics(members, site.settings, site.protocol)
    else:
        table = _harmonised(site, members, harmoniser)
    return assemble_cohort(members, table, site.settings, site.protocol, visual=visual)


def load_repeats(site: Site) -> FeatureRepeats:
    """Repeated measurements of the training cases, as they were extracted."""
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    return read_repeats(rows, feature_keys(rows, site), site.settings, site.protocol)


def case_design(site: Site, pseudonyms: tuple[str, ...]) -> BatchDesign:
    """Batches and covariates of these cases, as the protocol's harmonisation wants them.

    Refused `covariate-missing` or `scanner-missing` when a case has none; the site's log names the cases.
    """
    rows = {row.pseudonym: row for row in read_manifest(site.settings.manifest, site=site.settings.name)}
    return _design(site, [rows[pseudonym] for pseudonym in pseudonyms])


def _harmonised(site: Site, members: Members, harmoniser: Harmoniser) -> FeatureTable:
    """As kept from an earlier message of the same model, or made and kept now."""
    nothing = BatchDesign((), np.zeros((0, 0)))
    design = _design(site, members.rows) if harmoniser.method == "combat" else nothing
    store = HarmonisedStore(site.settings.cache, site.settings.name)
    training, test = (
        tuple(key for key, one in zip(members.keys, members.is_test, strict=True) if one == wanted)
        for wanted in (False, True)
    )
    key = store.key(training, test, design, harmoniser, site.protocol.harmonisation)
    values = store.load(key)
    if values is None:
        raw = read_radiomics(members, site.settings, site.protocol)
        values = _harmonise(site, raw, members.is_test, design, harmoniser)
        store.save(key, values)
    return FeatureTable(site.protocol.radiomics.names(), values, members.altered)


def _harmonise(
    site: Site, raw: FeatureTable, is_test: CaseFlags, design: BatchDesign, harmoniser: Harmoniser
) -> FeatureArray:
    """All cases' values; fitted on the training view."""
    training, _ = split_table(raw, is_test)
    if harmoniser.method == "site_zscore":
        return from_moments(moments.of_one_site(training)).apply(raw.values)
    location, settings = harmoniser.location(), site.protocol.harmonisation
    shifts = fit_own_batches(training, design.take(~is_test), location, settings, harmoniser.shifts())
    return apply_shifts(raw.values, design, location, shifts)


def _design(site: Site, cases: Sequence[CaseRow]) -> BatchDesign:
    settings = site.protocol.harmonisation
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
