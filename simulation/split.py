"""split: the paper's 204/50 (METHOD R5): stratified by class, at patient level, from a seed.

Each class gives floor(test_fraction x n) test cases: 25 of 127 each, hence 204/50 with 102/102 and 25/25.
scikit-learn's `train_test_split(test_size=0.2, stratify=y)` rounds up to 51.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from common.arrays import CaseFlags
from common.seeds import stream

__all__ = ["stratified_split"]


def stratified_split(altered: Sequence[bool], test_fraction: float, *, seed: int) -> CaseFlags:
    """True where a case is a test case; depends on the order of cases and the seed only."""
    labels = np.asarray(altered, dtype=bool)
    is_test = np.zeros(len(labels), dtype=bool)
    rng = stream(seed, "split")
    for label in (True, False):
        members = np.flatnonzero(labels == label)
        # The small constant keeps 0.2 x 125 at 25 where binary fractions would say 24.999...
        wanted = math.floor(test_fraction * len(members) + 1e-9)
        is_test[rng.permutation(members)[:wanted]] = True
    return is_test
