"""subgroups: figures by sex, age group, scanner ..., with the small ones withheld by name.

A level is shown when it has at least `min_cell` cases of each class; zero is small too, because it tells the label
of everyone in the level (METHOD 3.3), and others are withheld with it where it could be worked out from the total
(common/privacy/small_cells.py).

Law: the sum of the sites' counts gives the pooled table; which levels are withheld follows from the sum alone.
Disclosure: shares of a shown level let its four counts be worked out, and one of them may be small; with
`every_count` a level is shown only when none of the four is below `min_cell`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.arrays import CaseFlags, CaseScores
from common.errors import InputError
from common.metrics import roc_cells
from common.metrics.confusion import Confusion, confusion_below, require_finite_scores
from common.metrics.score_cells import ScoreCells
from common.privacy.small_cells import MIN_CELL, Reason, withheld_levels

__all__ = [
    "MIN_CELL",
    "LevelAuc",
    "SubgroupAucs",
    "SubgroupTable",
    "auc_by_subgroup",
    "by_subgroup",
    "combine",
    "summarise",
    "withheld_levels",
]


@dataclass(frozen=True)
class SubgroupTable:
    """shown: counts by level; withheld: why, by level; both in the order of the levels.

    equalised_odds_gap: the largest difference of sensitivity or of specificity between shown levels; None
    below two.
    """

    shown: dict[str, Confusion]
    withheld: dict[str, Reason]

    @property
    def equalised_odds_gap(self) -> float | None:
        """0 when the score errs alike everywhere (Hardt et al. 2016)."""
        if len(self.shown) < 2:
            return None
        return max(
            float(np.ptp([getattr(counts, share) for counts in self.shown.values()]))
            for share in ("sensitivity", "specificity")
        )


@dataclass(frozen=True)
class LevelAuc:
    """auc with its bound; interval: 95 %, logit-DeLong; cases per class."""

    auc: roc_cells.BoundedAuc
    interval: tuple[float, float]
    altered: int
    not_altered: int


@dataclass(frozen=True)
class SubgroupAucs:
    """shown and withheld as in `SubgroupTable`."""

    shown: dict[str, LevelAuc]
    withheld: dict[str, Reason]


def summarise(
    margins: CaseScores, altered: CaseFlags, levels: Sequence[str], *, known: Sequence[str], limit: float = 0.0
) -> dict[str, Confusion]:
    """Runs in the hospital: counts of each known level when margins below the limit are called altered.

    levels: of each case.  InputError `subgroup-unknown` for a level not agreed beforehand, also for an empty one.
    """
    require_finite_scores(margins, altered)
    names = np.asarray(levels)
    strangers = int((~np.isin(names, list(known))).sum())
    if strangers:
        raise InputError(
            "subgroup-unknown",
            field=f"{strangers} case(s)",
            problem="Cases belong to no agreed level of the subgroup.",
            fix="Add the level (or 'unknown') to the agreed list at every site.",
        )
    return {level: confusion_below(margins[names == level], altered[names == level], limit) for level in known}


def combine(parts: Sequence[Mapping[str, Confusion]]) -> dict[str, Confusion]:
    """Runs on the server; integers, so the order does not matter."""
    if any(list(part) != list(parts[0]) for part in parts):
        raise ValueError("tables of different levels cannot be added")
    return {level: sum((part[level] for part in parts[1:]), parts[0][level]) for level in parts[0]}


def by_subgroup(
    counts: Mapping[str, Confusion], *, min_cell: int = MIN_CELL, every_count: bool = False
) -> SubgroupTable:
    """What may be shown of the summed counts."""
    cells = {
        level: (c.tp, c.fn, c.tn, c.fp) if every_count else (c.tp + c.fn, c.tn + c.fp) for level, c in counts.items()
    }
    withheld = withheld_levels(cells, min_cell=min_cell)
    return SubgroupTable({level: c for level, c in counts.items() if level not in withheld}, withheld)


def auc_by_subgroup(cells: Mapping[str, ScoreCells], *, min_cell: int = MIN_CELL) -> SubgroupAucs:
    """AUC within each level (F10: by age group), from its summed cells."""
    withheld = withheld_levels({level: c.cases for level, c in cells.items()}, min_cell=min_cell)
    shown = {
        level: LevelAuc(roc_cells.auc(c), roc_cells.logit_delong_interval(c), *c.cases)
        for level, c in cells.items()
        if level not in withheld
    }
    return SubgroupAucs(shown, withheld)
