"""many_splits: the replay's main comparison over several splits of its cohort, since fifty test cases of one split
say little: the standard error of their AUC is about 0.04.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulation.compare import compare
from simulation.comparison import comparison, verdict
from simulation.journal import Journal
from simulation.replay import ReplayFolder, ReplaySettings

__all__ = ["JOURNAL", "many_splits"]

JOURNAL = "compare.jsonl"
"""In the run's folder; `fedmidline-sim compare` goes on from it."""


def many_splits(
    folder: ReplayFolder, settings: ReplaySettings, *, tell: Callable[[int], None] = lambda _seed: None
) -> dict[str, Any]:
    """Federated, pooled and alone over `settings.splits` splits; empty for none of them."""
    if not settings.splits:
        return {}
    results = compare(
        folder.single_centre,
        ("federated", "pooled", "alone"),
        range(settings.splits),
        how=settings.partition,
        sites=settings.sites,
        progress=lambda seed, _arm: tell(seed),
        journal=Journal(folder.root / JOURNAL),
    )
    table = comparison(results)
    return {**table, "verdict": verdict(table)}
