"""tables: the paper's Table 1 and Table 2, and a study's own, as rows of plain values."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.catalogue import PAPER_SIGNATURE
from common.metrics.group_tests import compare_counts, compare_measures
from server.reporting.content import CaseLine, StudyContent

__all__ = ["bytes_table", "participation_table", "table_1", "table_2"]

Row = dict[str, Any]


def table_1(cases: tuple[CaseLine, ...]) -> list[Row]:
    """Training against test: age, sex, tumour type, by chi-square (Fisher beside it); ages by class."""
    rows = [
        _counts("age < 18 / >= 18 years", cases, lambda c: c.age_years is not None and c.age_years < 18),
        _counts("male / female", cases, lambda c: c.sex == "male"),
        _counts("altered / not altered", cases, lambda c: c.altered),
    ]
    ages = [
        np.array([c.age_years for c in cases if c.altered == label and c.age_years is not None])
        for label in (True, False)
    ]
    if min(map(len, ages)) >= 3:
        test = compare_measures(*ages)
        rows.append(
            {
                "variable": "age by class (years)",
                "first": f"altered {test.describe[0]}",
                "second": f"not altered {test.describe[1]}",
                "statistic": test.statistic,
                "p": test.p,
                "fisher_p": None,
                "test": test.test,
            }
        )
    return rows


def _counts(variable: str, cases: tuple[CaseLine, ...], is_first: Any) -> Row:
    counts = np.array(
        [
            [sum(is_first(c) == wanted for c in cases if c.set == view) for wanted in (True, False)]
            for view in ("train", "test")
        ]
    )
    test = compare_counts(counts)
    return {
        "variable": variable,
        "first": f"training {counts[0, 0]} / {counts[0, 1]}",
        "second": f"test {counts[1, 0]} / {counts[1, 1]}",
        "statistic": test.chi_square,
        "p": test.p,
        "fisher_p": test.fisher_p,
        "test": "chi-square",
    }


def table_2(ranking: tuple[tuple[str, float], ...]) -> list[Row]:
    """The signature: sequence, filter, class, feature, score, whether the paper has it too."""
    rows = []
    for rank, (name, score) in enumerate(ranking, start=1):
        sequence, image, family, feature = name.split("_", 3)
        rows.append(
            {
                "rank": rank,
                "sequence": sequence,
                "filter": image,
                "class": family,
                "feature": feature,
                "score": score,
                "name": name,
                "in_paper": name in PAPER_SIGNATURE,
            }
        )
    return rows


def participation_table(content: StudyContent) -> list[Row]:
    """Every site in every exchange."""
    return [
        {
            "phase": e.phase,
            "action": e.action,
            "round": e.round,
            "site": site,
            "status": status,
            "code": e.codes.get(site, ""),
        }
        for e in content.exchanges
        for site, status in e.roster.items()
    ]


def bytes_table(content: StudyContent) -> list[Row]:
    """Bytes and seconds of every exchange, in both directions: of each site, and of all together."""
    return [
        {
            "phase": e.phase,
            "action": e.action,
            "round": e.round,
            "bytes_down": sum(e.bytes_down.values()),
            "bytes_up": sum(e.bytes_up.values()),
            "sites": {
                site: {"bytes_down": e.bytes_down.get(site, 0), "bytes_up": e.bytes_up.get(site, 0)}
                for site in e.roster
            },
            "seconds": round(e.seconds, 3),
            "training_loss": e.loss,
        }
        for e in content.exchanges
    ]
