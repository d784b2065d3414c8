"""landmarks: the standard scale of Nyul and Udupa (1999) over cases that nobody holds together, from sums.

A training case's landmarks are the percentiles 1, 10, 20 ... 90, 99 of its brain in each sequence, moved so that the
first lies at 0 and the last at 100.  The standard scale is their mean over the study's training cases.

    site    `landmark_table` of its cases, training rows only, summed by common/stats/moments.py
    server  sum over sites / number of cases

Law: equal to the mean over the pooled training cases to 1e-12 relative, for any partition.  Needs sums only.
Disclosure: 18 sums over at least `min_cases` cases (the ends are 0 and 100 by construction).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.arrays import CaseFlags, FeatureArray
from common.catalogue import SEQUENCES
from common.config.preprocessing import LANDMARK_PERCENTILES, StandardScale
from common.errors import InputError
from common.stats.moments import Sums
from common.tables import FeatureTable

__all__ = ["NAMES", "finish", "landmark_table"]

NAMES = tuple(f"{sequence}_percentile_{p}" for sequence in SEQUENCES for p in LANDMARK_PERCENTILES)


def landmark_table(landmarks: FeatureArray, altered: CaseFlags) -> FeatureTable:
    """landmarks: (cases, sequences * percentiles) in the images' own units; the table's ends are 0 and 100."""
    found = landmarks.reshape(len(landmarks), len(SEQUENCES), len(LANDMARK_PERCENTILES))
    low, high = found[:, :, :1], found[:, :, -1:]
    moved = 100 * (found - low) / (high - low)
    return FeatureTable(NAMES, moved.reshape(len(landmarks), -1), altered)


def finish(parts: Sequence[Sums]) -> StandardScale:
    """Runs at the coordinator; parts: of the sites, in the order of their names."""
    total, cases = np.sum([part.total for part in parts], axis=0), sum(part.count for part in parts)
    scale = dict(zip(SEQUENCES, (total / cases).reshape(len(SEQUENCES), -1), strict=True))
    if not all((np.diff(values) > 0).all() for values in scale.values()):
        raise InputError(
            "landmarks-do-not-rise",
            field="landmarks",
            problem="The sites' landmarks do not make a rising scale.",
            fix="Ask the sites to look at their quality pages; an image may be constant or masked wrongly.",
        )
    return StandardScale(t1ce=tuple(map(float, scale["T1CE"])), flair=tuple(map(float, scale["FLAIR"])))
