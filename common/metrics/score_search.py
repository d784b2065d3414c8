"""score_search: exact ROC cells of scores that nobody holds together, by counting (a consortium opts in).

The margin's order-preserving key is refined from its first bits on: every site counts its cases per
sub-cell and class, and only cells that still matter are asked about again.

    ties="crossed"   refine cells that hold both classes: AUC, DeLong, bootstrap and Youden become exact
    ties="all"       refine every cell of two or more cases: the tie correction of the rank-sum too

True ties end at the sixty-fourth bit.  Law: the finished cells give exactly `roc.auc`, `roc.delong_error` and
scipy's `mannwhitneyu` of the pooled scores, for any partition.  Needs sums only; a round asks for at most
about `BUDGET` counts.
Disclosure: reveals the ROC curve and the leading 20-28 bits of single scores (with true ties under "all",
every bit); `stop_bits` ends the search early, and the cells' AUC then carries a bound again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.arrays import CaseFlags, CaseScores
from common.metrics.confusion import require_finite_scores
from common.metrics.score_cells import Counts, ScoreCells, TrainingCells
from common.stats.float_keys import Keys, to_floats, to_keys

__all__ = [
    "CellRequest",
    "ScoreSearch",
    "advance",
    "finish",
    "finish_training",
    "finished",
    "request",
    "search_scores",
    "start",
    "summarise",
]

FIRST_BITS = 12
BITS = 8
BUDGET = 1 << 18

Ties = Literal["crossed", "all"]


@dataclass(frozen=True)
class CellRequest:
    """prefixes: (active,) rising first `depth` bits of keys; `bits` more are to be told apart."""

    prefixes: Keys
    depth: int
    bits: int


@dataclass(frozen=True)
class ScoreSearch:
    """keys, counts: (settled,) lowest keys and (settled, 2) counts of cells that need no more;
    prefixes: (active,) cells to refine, known to `depth` of `stop_bits` bits; rounds: exchanges done.
    """

    keys: Keys
    counts: Counts
    prefixes: Keys
    depth: int
    ties: Ties
    stop_bits: int
    rounds: int


def start(*, ties: Ties = "crossed", stop_bits: int = 64) -> ScoreSearch:
    """Nothing known: one cell holds all."""
    if not 1 <= stop_bits <= 64:
        raise ValueError(f"a float64 has 64 bits, not {stop_bits}")
    return ScoreSearch(
        np.zeros(0, np.uint64), np.zeros((0, 2), np.int64), np.zeros(1, np.uint64), 0, ties, stop_bits, 0
    )


def finished(search: ScoreSearch) -> bool:
    """Whether no cell needs refining."""
    return len(search.prefixes) == 0


def request(search: ScoreSearch) -> CellRequest:
    """What every site is asked next; fewer bits at a time when many cells are active."""
    room = max(1, (BUDGET // max(1, len(search.prefixes))).bit_length() - 1)
    wanted = FIRST_BITS if search.depth == 0 else BITS
    return CellRequest(search.prefixes, search.depth, min(wanted, room, search.stop_bits - search.depth))


def summarise(margins: CaseScores, altered: CaseFlags, asked: CellRequest) -> Counts:
    """Runs in the hospital: (active, 2**bits, 2) cases; classes are (not altered, altered)."""
    require_finite_scores(margins, altered)
    counts = np.zeros((len(asked.prefixes), 1 << asked.bits, 2), np.int64)
    heads = to_keys(np.asarray(margins, np.float64)) >> np.uint64(64 - asked.depth - asked.bits)
    digits = (heads & np.uint64((1 << asked.bits) - 1)).astype(np.int64)
    tops = heads >> np.uint64(asked.bits)
    place = np.minimum(np.searchsorted(asked.prefixes, tops), len(asked.prefixes) - 1)
    inside = asked.prefixes[place] == tops
    np.add.at(counts, (place[inside], digits[inside], altered[inside].astype(int)), 1)
    return counts


def advance(search: ScoreSearch, counts: Counts) -> ScoreSearch:
    """Runs on the server: settle what is pure, keep what must be refined, from the summed counts."""
    asked = request(search)
    if counts.shape != (len(asked.prefixes), 1 << asked.bits, 2):
        raise ValueError(f"counts of shape {counts.shape} do not answer this request")
    depth = search.depth + asked.bits
    place, digit = np.nonzero(counts.sum(axis=2))
    found = counts[place, digit]
    heads = (asked.prefixes[place] << np.uint64(asked.bits)) | digit.astype(np.uint64)
    open_cell = found.min(axis=1) > 0 if search.ties == "crossed" else found.sum(axis=1) > 1
    if depth == search.stop_bits:
        open_cell = np.zeros(len(found), bool)
    settled = heads[~open_cell] << np.uint64(64 - depth)
    return ScoreSearch(
        keys=np.concatenate([search.keys, settled]),
        counts=np.concatenate([search.counts, found[~open_cell]]),
        prefixes=heads[open_cell],
        depth=depth,
        ties=search.ties,
        stop_bits=search.stop_bits,
        rounds=search.rounds + 1,
    )


def finish(search: ScoreSearch) -> ScoreCells:
    """The cells in rising order of the margin; only such as hold a case."""
    order = np.argsort(search.keys)
    counts = search.counts[order]
    return ScoreCells(to_floats(search.keys[order]), counts[:, 1], counts[:, 0], exact=search.stop_bits == 64)


def finish_training(search: ScoreSearch) -> TrainingCells:
    """As `finish`, where every site counted training cases only."""
    cells = finish(search)
    return TrainingCells(cells.lower, cells.altered, cells.not_altered, exact=cells.exact)


def search_scores(
    parts: Sequence[tuple[CaseScores, CaseFlags]], *, ties: Ties = "crossed", stop_bits: int = 64
) -> ScoreSearch:
    """All rounds at once over (margins, altered) of each site, where one process holds them (simulation, notebook)."""
    search = start(ties=ties, stop_bits=stop_bits)
    while not finished(search):
        asked = request(search)
        search = advance(search, np.sum([summarise(margins, altered, asked) for margins, altered in parts], axis=0))
    return search
