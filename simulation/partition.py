"""partition: which hospital holds which case (METHOD R57).

scanner    one site per scanner: the natural, non-IID partition (default)
iid        shuffled evenly over the sites
dirichlet  label skew: each class spread over the sites by a Dirichlet draw (Hsu et al. 2019,
           arXiv 1909.06335)
size       sites of very different size (shares 1 : 2 : 4 : ...), classes alike
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from common.errors import Refused
from common.seeds import stream

__all__ = ["PARTITIONS", "Partition", "partition"]

Partition = Literal["scanner", "iid", "dirichlet", "size"]
PARTITIONS: tuple[str, ...] = get_args(Partition)


def partition(
    how: Partition,
    *,
    scanners: Sequence[str],
    altered: Sequence[bool],
    is_test: Sequence[bool],
    sites: int,
    seed: int,
    alpha: float = 0.5,
) -> list[str]:
    """A site's name for each case.

    Every site gets training cases of both classes whatever the draw, because a site with one class
    cannot take part; test cases follow the same rule as training cases, drawn apart.
    """
    if how == "scanner":
        return list(scanners)
    rng = stream(seed, "partition", how)
    owner = np.empty(len(altered), dtype=object)
    names = [f"site-{chr(ord('a') + i)}" if sites <= 26 else f"site-{i:04d}" for i in range(sites)]
    for in_test in (False, True):
        for label in (True, False):
            members = np.flatnonzero((np.asarray(altered) == label) & (np.asarray(is_test) == in_test))
            rng.shuffle(members)
            shares = _shares(how, sites, alpha, rng)
            for name, part in zip(names, _divide(members, shares, at_least=0 if in_test else 2), strict=True):
                owner[part] = name
    return [str(name) for name in owner]


def _shares(how: Partition, sites: int, alpha: float, rng: np.random.Generator) -> np.ndarray:
    if how == "dirichlet":
        return rng.dirichlet(np.full(sites, alpha))
    weights = 2.0 ** np.arange(sites) if how == "size" else np.ones(sites)
    return np.asarray(weights / weights.sum())


def _divide(members: np.ndarray, shares: np.ndarray, *, at_least: int) -> list[np.ndarray]:
    """Cut `members` into len(shares) runs, none shorter than `at_least`."""
    if len(members) < at_least * len(shares):
        raise Refused(
            "too-few-cases-to-partition",
            field="sites",
            problem="There are fewer cases of a class than the sites need.",
            fix="Simulate fewer sites or a larger cohort.",
        )
    spare = len(members) - at_least * len(shares)
    ends = np.rint(np.cumsum(shares) * spare).astype(int) + at_least * np.arange(1, len(shares) + 1)
    return np.split(members, ends[:-1])
