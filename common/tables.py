"""tables: cases x features, in three types so that nothing can be fitted on a test case.

Every function that fits something (moments, edges, selection, weights) accepts a `TrainingTable` and
nothing else; `mypy --strict` refuses a `TestTable` there and `require_training` refuses it at run
time.  `split_table` is the only maker of both, so the two never overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from common.arrays import CaseFlags, FeatureArray
from common.errors import InputError, Refused

__all__ = ["FeatureTable", "TestTable", "TrainingTable", "require_same_features", "require_training", "split_table"]


@dataclass(frozen=True)
class FeatureTable:
    """Radiomics (or other tabular) features of some cases.

    names: one per column, in catalogue order.
    values: float64, one row per case, each column in its own unit.
    altered: True where the reference standard says H3 K27-altered (the positive class).
    """

    names: tuple[str, ...]
    values: FeatureArray
    altered: CaseFlags

    def __post_init__(self) -> None:
        rows, columns = self.values.shape
        if columns != len(self.names) or rows != len(self.altered):
            raise ValueError(f"table of {rows} x {columns} with {len(self.names)} names and {len(self.altered)} labels")

    def __len__(self) -> int:
        return len(self.altered)

    def with_values(self, values: FeatureArray) -> Self:
        """The same cases and features with other values."""
        return replace(self, values=values)

    def columns(self, names: tuple[str, ...]) -> Self:
        """The same cases with only these features, in the order asked for."""
        place = {name: i for i, name in enumerate(self.names)}
        return replace(self, names=names, values=self.values[:, [place[n] for n in names]])


@dataclass(frozen=True)
class TrainingTable(FeatureTable):
    """Cases that may be learned from."""


@dataclass(frozen=True)
class TestTable(FeatureTable):
    """Cases that may only be scored."""

    __test__ = False  # the name is the field's; pytest must not collect it


def split_table(table: FeatureTable, is_test: CaseFlags) -> tuple[TrainingTable, TestTable]:
    """The one door from all cases to training and test cases; every case lands in exactly one."""
    train = TrainingTable(table.names, table.values[~is_test], table.altered[~is_test])
    test = TestTable(table.names, table.values[is_test], table.altered[is_test])
    return train, test


def require_training(table: FeatureTable) -> None:
    """Refuse anything but a `TrainingTable`; the run-time half of the type rule."""
    if not isinstance(table, TrainingTable):
        raise Refused(
            "fit-on-test-cases",
            field=type(table).__name__,
            problem="Something tried to learn from cases that are not training cases.",
            fix="Pass the training view of the cohort.",
        )


def require_same_features(tables: Sequence[FeatureTable]) -> None:
    """InputError `features-differ` names the first table that lacks features, has others or another order.

    Sums of columns that mean different things would look like any other sum.
    """
    names = tables[0].names
    for number, table in enumerate(tables[1:], 2):
        if table.names == names:
            continue
        lacking, strange = ([n for n in a if n not in set(b)] for a, b in ((names, table.names), (table.names, names)))
        found = [f"{what} {', '.join(some[:5])}" for what, some in (("lacks", lacking), ("adds", strange)) if some]
        raise InputError(
            "features-differ",
            field=", ".join([*lacking, *strange][:5]) or "order",
            problem=f"Table {number} {' and '.join(found) or 'has the features in another order'}.",
            fix="Give every site the same features in one order: table.columns(names).",
        )
