"""demographics: ages and sexes with the paper's exact margins (METHOD R3, R4, F10).

127 altered: 84 male, ages 8-66, median 31 (21, 40), 23 minors.  127 not altered: 81 male, 21-81, median 55
(43, 65), no minor.  Age therefore tells much of the class, as it does in the paper: that confounding is
part of what the replay must show.
"""

from __future__ import annotations

import numpy as np

__all__ = ["draw_ages", "draw_sexes"]

PAPER = 127
# (rank, age) among 127 sorted ages; between them ages rise evenly.  numpy's linear quartiles lie between
# ranks 31 and 32 and between 94 and 95, the median on rank 63.
AGE_BY_RANK = {
    True: ((0, 8), (22, 17), (23, 18), (31, 21), (32, 21), (63, 31), (94, 40), (95, 40), (126, 66)),
    False: ((0, 21), (31, 43), (32, 43), (63, 55), (94, 65), (95, 65), (126, 81)),
}
MALES = {True: 84, False: 81}


def draw_ages(altered: bool, cases: int, rng: np.random.Generator) -> list[int]:
    """Whole years in random order; exact for 127 cases, the same quantile function otherwise."""
    ranks, ages = zip(*AGE_BY_RANK[altered], strict=True)
    places = np.linspace(0, PAPER - 1, cases) if cases > 1 else np.array([(PAPER - 1) / 2])
    return [int(age) for age in rng.permutation(np.rint(np.interp(places, ranks, ages)))]


def draw_sexes(altered: bool, cases: int, rng: np.random.Generator) -> list[str]:
    """`male` or `female`, the paper's share of each."""
    males = round(MALES[altered] * cases / PAPER)
    return [str(sex) for sex in rng.permutation(["male"] * males + ["female"] * (cases - males))]
