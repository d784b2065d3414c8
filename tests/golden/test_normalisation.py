"""WhiteStripe and Nyul give what the package intensity-normalization 3.0.1 gives of the same voxels.

Its values were computed once, on these arrays (it holds them in single precision): WhiteStripeNormalizer(T1 for T1CE, FLAIR),
NyulNormalizer(output 0 to 100) fitted on seeds 0 to 3 and applied to seed 2, both with a mask of ones.
"""

from __future__ import annotations

import numpy as np
import pytest

from client.preprocess.steps.nyul import landmarks_of, on_standard_scale
from client.preprocess.steps.whitestripe import whitestriped
from common.stats.landmarks import finish, landmark_table
from common.stats.moments import summarise_sums
from common.tables import split_table

TISSUES = {  # mean, deviation, voxels of liquor, grey and white matter
    "T1CE": ((200, 40, 6000), (420, 30, 16000), (560, 25, 18000)),
    "FLAIR": ((150, 50, 6000), (520, 40, 14000), (430, 25, 20000)),
}
STRIPE = {"T1CE": (559.0634765625, 4.319623947143555), "FLAIR": (437.3365783691406, 3.757317066192627)}
SCALE = {
    "T1CE": [0, 6.8494410377620945, 21.17438078743109, 23.242464158726538, 24.977984579774397, 27.718858837411066,
             33.77702026916016, 35.277456005850446, 36.55207048072238, 38.24393861843258, 100],
    "FLAIR": [0, 8.11352158379269, 26.211283034011274, 27.69425039997484, 28.761310840127592, 29.829816642758246,
              31.283129173831178, 33.728214520929384, 36.24825948791453, 39.122393081964226, 100],
}  # fmt: skip
SOME = [0, 7000, 20000, 30000, -1]
MOVED = {
    "T1CE": [5.640738010406494, 28.679893493652344, 24.123029708862305, 37.2766227722168, 71.61468505859375],
    "FLAIR": [6.681747913360596, 42.0897216796875, 28.874425888061523, 30.042194366455078, 73.11235046386719],
}
ENDS = {"T1CE": (-7.4327645, 116.45949), "FLAIR": (-6.0285215, 115.59105)}


def _brain(seed: int, sequence: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(mean, spread, count) for mean, spread, count in TISSUES[sequence]]
    parts.append(rng.uniform(600, 1500, 2000))
    return np.clip(np.concatenate(parts), 1, None) * (1 + seed / 10)


@pytest.mark.parametrize("sequence", ["T1CE", "FLAIR"])
def test_white_stripe(sequence):
    values = _brain(0, sequence)
    mean, deviation = STRIPE[sequence]

    assert whitestriped(values, sequence) == pytest.approx((values - mean) / deviation, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("sequence", ["T1CE", "FLAIR"])
def test_nyul(sequence):
    both = [[landmarks_of(_brain(seed, name)) for name in ("T1CE", "FLAIR")] for seed in range(4)]
    table = landmark_table(np.array(both).reshape(4, -1), np.array([True, False] * 2))
    training, _ = split_table(table, np.zeros(4, bool))

    scale = getattr(finish([summarise_sums(training)]), sequence.lower())
    moved = on_standard_scale(_brain(2, sequence), scale)

    assert scale == pytest.approx(SCALE[sequence], rel=1e-5, abs=1e-6)
    assert moved[SOME] == pytest.approx(MOVED[sequence], rel=1e-5)
    assert (moved.min(), moved.max()) == pytest.approx(ENDS[sequence], rel=1e-5)
