"""small_cells: which counts are too small to be told, the one rule that every table of this project goes by.

A count below `min_cell` says something about single persons; so does a zero, because it tells something of everyone
in the row (METHOD 3.3; UK LLC's rule).  One withheld count could be worked out from a total: then the smallest shown
one is withheld as well, until those withheld together hide `min_cell` persons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

__all__ = ["MIN_CELL", "ROUNDING", "Reason", "round_to", "small_cells", "withheld_levels"]

MIN_CELL = 10
ROUNDING = 5
Reason = Literal["small-cell", "complement"]


def small_cells(counts: np.ndarray[Any, Any], *, min_cell: int = MIN_CELL, zeros: bool = True) -> int:
    """How many of these counts are below the limit; zeros: whether a zero is among them."""
    small = np.asarray(counts) < min_cell
    return int(np.count_nonzero(small if zeros else small & (np.asarray(counts) != 0)))


def round_to(count: int, base: int = ROUNDING) -> int:
    """The nearest multiple, halves to the even one."""
    return base * round(count / base)


def withheld_levels(cells: Mapping[str, Sequence[int]], *, min_cell: int = MIN_CELL) -> dict[str, Reason]:
    """Levels that must not be shown when their total is; cells: the counts of each level, e.g. per class.

    Also for figures that are no counts, as the AUC of a level.
    """
    reasons: dict[str, Reason] = {level: "small-cell" for level, counts in cells.items() if min(counts) < min_cell}
    while reasons and len(reasons) < len(cells):
        hidden = np.sum([cells[level] for level in reasons], axis=0)
        if hidden.min() >= min_cell:
            break
        shown = [level for level in cells if level not in reasons]
        reasons[min(shown, key=lambda level: (sum(cells[level]), level))] = "complement"
    return {level: reasons[level] for level in cells if level in reasons}
