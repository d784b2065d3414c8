"""clinical: age, sex and location as columns, for the comparators that look at no image (F10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from client.case import CaseRow
from client.store.cohort import SiteCohort
from common.tables import TestTable, TrainingTable
from simulation.cohort.tumour import LOCATIONS

__all__ = ["AGE", "CLINICAL", "SiteTables", "age_group", "clinical_tables"]

AGE = "clinical_age"
LEVELS = tuple(name for name in LOCATIONS if name != "thalamus")
"""Thalamus, the commonest, is the level the others are compared with."""
CLINICAL = (AGE, "clinical_male", *(f"clinical_{name}" for name in LEVELS))


@dataclass(frozen=True)
class SiteTables:
    """Training and test cases of one site, in the order of its cohort; site: its name."""

    site: str
    training: TrainingTable
    test: TestTable


def clinical_tables(site: str, cohort: SiteCohort, rows: Mapping[str, CaseRow]) -> SiteTables:
    """Radiomics and clinical columns side by side."""
    training, test = (
        np.column_stack(
            [view.table.values, np.array([_clinical(rows[p]) for p in view.pseudonyms]).reshape(-1, len(CLINICAL))]
        )
        for view in (cohort.training, cohort.test)
    )
    names = (*cohort.training.table.names, *CLINICAL)
    return SiteTables(
        site,
        TrainingTable(names, training, cohort.training.table.altered),
        TestTable(names, test, cohort.test.table.altered),
    )


def age_group(age_years: float | None) -> str:
    """The groups of METHOD section 4: children are all altered, so age alone tells."""
    if age_years is None:
        return "unknown"
    return "< 18" if age_years < 18 else "18 - 40" if age_years <= 40 else "> 40"


def _clinical(row: CaseRow) -> list[float]:
    if row.age_years is None:
        raise ValueError("a synthetic case has an age")
    return [row.age_years, float(row.sex == "male"), *(float(row.location == name) for name in LEVELS)]
