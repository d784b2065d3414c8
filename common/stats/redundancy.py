"""redundancy: how many independent groups a set of features has (METHOD F4: the paper's nineteen have about seven).

Two features are alike when their values rank the cases alike: distance 1 - |Spearman's rho|.  Groups are the
clusters of agglomerative clustering cut at 1 - threshold: with `complete` linkage every pair of a group is
correlated above the threshold, with `average` the mean pair is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from common.tables import TrainingTable, require_training

__all__ = ["Redundancy", "count_independent", "group_by_correlation"]


@dataclass(frozen=True)
class Redundancy:
    """groups: names that belong together, largest first; constant: features with one value in all cases."""

    groups: tuple[tuple[str, ...], ...]
    constant: tuple[str, ...]
    threshold: float
    linkage: str

    @property
    def independent(self) -> int:
        """Number of groups."""
        return len(self.groups)


def count_independent(
    table: TrainingTable, *, threshold: float = 0.9, method: Literal["complete", "average"] = "complete"
) -> Redundancy:
    """Group the table's features by |Spearman| over its cases; at least three cases."""
    require_training(table)
    if len(table) < 3:
        raise ValueError(f"ranks of {len(table)} cases say nothing")
    moving = np.ptp(table.values, axis=0) > 0
    names = tuple(name for name, keep in zip(table.names, moving, strict=True) if keep)
    ranks = rankdata(table.values[:, moving], axis=0)
    correlation = np.atleast_2d(np.corrcoef(ranks, rowvar=False))
    constant = tuple(name for name, keep in zip(table.names, moving, strict=True) if not keep)
    return Redundancy(
        group_by_correlation(correlation, names, threshold=threshold, method=method), constant, threshold, method
    )


def group_by_correlation(
    correlation: np.ndarray[Any, Any],
    names: tuple[str, ...],
    *,
    threshold: float,
    method: Literal["complete", "average"] = "complete",
) -> tuple[tuple[str, ...], ...]:
    """Groups of a correlation matrix, as of pooled ranks; largest first, then in the order of names."""
    if len(names) < 2:
        return tuple((name,) for name in names)
    distance = np.clip(1 - np.abs(correlation), 0, 1)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform((distance + distance.T) / 2, checks=False), method)
    label = fcluster(tree, 1 - threshold, criterion="distance")
    groups = [tuple(name for name, own in zip(names, label, strict=True) if own == each) for each in sorted(set(label))]
    return tuple(sorted(groups, key=lambda group: (-len(group), names.index(group[0]))))
