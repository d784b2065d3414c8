"""Settings of training: schedules, steps, what contradicts itself."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight

from common.config.training import TrainingSettings
from common.stats.class_weights import balanced_weights


def test_the_cosine_falls_from_the_rate_towards_zero():
    training = TrainingSettings(learning_rate=0.4, schedule="cosine", rounds=4)

    rates = [training.rate(n) for n in (1, 2, 3, 4)]

    assert rates == pytest.approx([0.4, 0.3414214, 0.2, 0.0585786])
    assert {TrainingSettings(learning_rate=0.4).rate(n) for n in (1, 9)} == {0.4}


def test_steps_of_a_round():
    assert TrainingSettings(local_epochs=5, batch_size=16).steps(68) == 25
    assert TrainingSettings(local_epochs=5, batch_size=0).steps(68) == 5
    assert TrainingSettings(strategy="fedsgd").steps(68) == 1


def test_the_exact_mode_travels_exactly():
    assert TrainingSettings(strategy="fedsgd").wire_encoding == "float32"
    assert TrainingSettings().wire_encoding == "low_rank_int8"
    assert TrainingSettings(encoding="float16").wire_encoding == "float16"


@pytest.mark.parametrize(
    "wrong",
    [
        {"patience": 3},
        {"strategy": "scaffold", "momentum": 0.9},
        {"strategy": "scaffold", "optimiser": "adamw"},
        {"strategy": "feddyn", "weighting": "inverse_variance"},
    ],
)
def test_contradictions_are_refused(wrong):
    with pytest.raises(ValidationError):
        TrainingSettings(**wrong)


def test_class_weights_are_scikit_learns():
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=[0] * 30 + [1] * 12)

    assert balanced_weights(30, 12) == pytest.approx(tuple(expected))
