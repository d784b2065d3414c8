"""table: a CSV of cases with a site column, for statistics without images; every fault at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from common.errors import InputError
from common.tables import TrainingTable

__all__ = ["CaseTable", "covariate_columns", "flag_column", "read_case_table", "score_column_as_margins"]

MOST_FAULTS = 20


@dataclass(frozen=True)
class CaseTable:
    """frame: the file as it is; site: of each row; features: names of the numeric columns that are left over;
    carried: text columns that are neither.
    """

    frame: pd.DataFrame
    site: tuple[str, ...]
    features: tuple[str, ...]
    carried: tuple[str, ...]

    @property
    def sites(self) -> tuple[str, ...]:
        """Names in the fixed order of all sums."""
        return tuple(sorted(set(self.site)))

    def values(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(cases, features)."""
        return self.frame[list(self.features)].to_numpy(np.float64)

    def rows(self, site: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which cases a site holds."""
        return np.array([s == site for s in self.site])

    def training(self, rows: np.ndarray[Any, np.dtype[np.bool_]], altered: np.ndarray[Any, Any]) -> TrainingTable:
        """Some rows as training cases."""
        return TrainingTable(self.features, self.values()[rows], altered[rows])


def read_case_table(
    path: Path, *, site_column: str, others: Sequence[str] = (), ignore: Sequence[str] = ()
) -> CaseTable:
    """All columns but `site_column`, `others` and `ignore` are features; those that hold text only are carried along.

    InputError `table-invalid` names every missing column, empty cell and cell that is not a finite number.
    """
    try:
        frame = pd.read_csv(path, keep_default_na=False, dtype=str)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(
            "table-unreadable",
            field="table",
            problem="The table cannot be read.",
            fix="Give the path of a CSV file with a header line, in UTF-8.",
            local=f"{path}: {type(error).__name__}: {error}",
        ) from None
    named = [site_column, *others, *ignore]
    faults = [
        f"column {name!r} is missing; the file has {', '.join(frame.columns[:8])}, ..."
        for name in named
        if name not in frame
    ]
    if faults or frame.empty:
        raise _invalid(path, faults or ["the file holds no case"])
    numbers = {name: pd.to_numeric(frame[name], errors="coerce") for name in frame.columns if name not in named}
    text = tuple(name for name, column in numbers.items() if column.isna().all() and (frame[name] != "").any())
    features = tuple(name for name in numbers if name not in text)
    for name in features:
        bad = np.flatnonzero(~np.isfinite(numbers[name].to_numpy(np.float64)))
        faults += [f"row {row + 2}, {name}: {frame[name][row]!r} is not a finite number" for row in bad]
    for name in (site_column, *others):
        faults += [f"row {row + 2}, {name}: the cell is empty" for row in np.flatnonzero(frame[name] == "")]
    if not features:
        faults.append("no column is left that could be a feature")
    if faults:
        raise _invalid(path, faults)
    whole = frame.assign(**{name: numbers[name] for name in features})
    return CaseTable(whole, tuple(frame[site_column]), features, text)


def flag_column(table: CaseTable, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A column of two classes as True and False: `altered`, `true`, `yes`, `1` (or the greater of two words) is True."""
    words = table.frame[name].astype(str).str.strip()
    levels = sorted(set(words))
    if len(levels) != 2:
        raise InputError(
            "label-not-two-classes",
            field=name,
            problem=f"The label column has {len(levels)} different values; two are needed.",
            fix="Give a column with two classes, such as altered and not_altered.",
            local=", ".join(levels[:5]),
        )
    positive = next((word for word in levels if word.lower() in {"altered", "true", "yes", "1", "1.0"}), levels[1])
    return (words == positive).to_numpy()


def covariate_columns(
    table: CaseTable, names: Sequence[str]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], tuple[str, ...]]:
    """(cases, columns) and their names: numbers as they are, words as one 0/1 column per level but the first."""
    columns: list[np.ndarray[Any, Any]] = []
    labels: list[str] = []
    for name in names:
        numbers = pd.to_numeric(table.frame[name], errors="coerce").to_numpy(np.float64)
        if np.isfinite(numbers).all():
            columns.append(numbers)
            labels.append(name)
            continue
        for level in sorted(set(table.frame[name]))[1:]:
            columns.append((table.frame[name] == level).to_numpy(np.float64))
            labels.append(f"{name}={level}")
    stacked = np.stack(columns, axis=1) if columns else np.zeros((len(table.frame), 0))
    return stacked, tuple(labels)


def score_column_as_margins(
    table: CaseTable, name: str, kind: Literal["safety", "risk", "margin"]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Logit of the safety score of each case; probabilities of exactly 0 or 1 count as 1e-15 from it."""
    if name not in table.features:
        raise InputError(
            "score-column-missing",
            field=name,
            problem="The table has no such column of numbers.",
            fix="Name the column of scores by --score-column.",
            local=", ".join(table.features),
        )
    scores = table.frame[name].to_numpy(np.float64)
    if kind == "margin":
        return scores
    if scores.min() < 0 or scores.max() > 1:
        raise InputError(
            "score-not-a-probability",
            field=name,
            problem="Scores lie outside of 0 to 1.",
            fix="Give probabilities, or say --score-kind margin for logits.",
        )
    safety = np.clip(scores if kind == "safety" else 1 - scores, 1e-15, 1 - 1e-15)
    return np.asarray(np.log(safety) - np.log1p(-safety))


def _invalid(path: Path, faults: list[str]) -> InputError:
    shown = faults[:MOST_FAULTS] + ([f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else [])
    return InputError(
        "table-invalid",
        field="table",
        problem=f"The table has {len(faults)} fault(s).",
        fix="Mend each one named; columns that are not features go into --ignore.",
        local=f"{path.name}:\n" + "\n".join(f"    - {fault}" for fault in shown),
    )
