"""DP-SGD: no case has more influence than the clip, the noise is as loud as stated, and without both it is plain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.fused import train_plain
from client.training.local_task import LocalTask, Privately
from client.training.private import train_private
from client.visual_maps import VisualMaps
from common.config.modelling import HeadSettings
from common.config.privacy import RecordLevelSettings
from common.config.training import TrainingSettings
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.networks.fused_head import initial_weights
from common.privacy.noise import NoiseStream
from common.tables import TrainingTable

LENGTH, NAMES = 24, ("a", "b", "c")
LAWS = settings(deadline=None, max_examples=15, derandomize=True)


def make_task(seed=1, cases=12, **training: object) -> LocalTask:
    rng = np.random.default_rng(seed)
    head, altered = HeadSettings(hidden=4), rng.permutation(cases) % 2 == 0
    model = ModelState(
        harmoniser=Harmoniser(),
        weights=initial_weights(LENGTH, len(NAMES), head, seed=seed),
        signature=NAMES,
        radiomics_mean=np.zeros(3),
        radiomics_deviation=np.ones(3),
        visual_mean=np.zeros(LENGTH, np.float32),
        visual_deviation=np.ones(LENGTH, np.float32),
    )
    maps = VisualMaps.of(3 * rng.standard_normal((cases, LENGTH)).astype(np.float32))
    table = TrainingTable(NAMES, 3 * rng.standard_normal((cases, 3)), altered)
    chosen = TrainingSettings(
        **{"strategy": "fedsgd", "learning_rate": 1.0, "weight_decay": 0.0, "batch_size": 0, **training}
    )
    return LocalTask(table, maps, model, head, chosen, seed, "site", 1)


def privately(noise=0.0, clip=1.0, rate=1.0, key=b"k" * 32) -> Privately:
    asked = RecordLevelSettings(max_grad_norm=clip, noise_multiplier=noise, sampling_rate=rate)
    return Privately(asked, noise, NoiseStream(key))


def without(task: LocalTask, case: int) -> LocalTask:
    kept = [i for i in range(len(task.table)) if i != case]
    table = replace(task.table, values=task.table.values[kept], altered=task.table.altered[kept])
    return replace(task, table=table, visual=task.visual.take(kept))


def flat(update) -> np.ndarray:
    return np.concatenate([change.ravel() for change in update.changes.values()]).astype(np.float64)


def sum_of_steps(task, private) -> np.ndarray:
    """Of a single step at rate 1: minus the sum of what the cases contributed."""
    return flat(train_private(task, private, precision=torch.float64)) * len(task.table)


@LAWS
@given(st.integers(0, 2**20), st.integers(3, 9), st.sampled_from([1e-3, 0.1, 1.0, 50.0]))
def test_no_case_moves_the_sum_by_more_than_the_clip(seed, cases, clip):
    """For every case of the site, whatever its features and its label."""
    task, private = make_task(seed, cases), privately(clip=clip)
    everyone = sum_of_steps(task, private)

    influence = [np.linalg.norm(everyone - sum_of_steps(without(task, i), private)) for i in range(cases)]

    assert max(influence) <= clip * (1 + 1e-5) + 1e-5
    if clip <= 0.1:
        assert max(influence) > 0.99 * clip  # the bound is reached: gradients are longer than that


@pytest.mark.parametrize(
    ("training", "rate"),
    [
        ({}, 1.0),
        ({"strategy": "fedavg", "local_epochs": 3, "momentum": 0.9, "weight_decay": 0.1}, 1.0),
        ({"strategy": "fedprox", "local_epochs": 4}, 1.0),
        ({"strategy": "fedavg", "local_epochs": 3, "optimiser": "adamw", "learning_rate": 1e-3}, 1.0),
    ],
)
def test_without_noise_and_clip_it_is_the_plain_step(training, rate):
    task = make_task(**training)

    private = train_private(task, privately(clip=1e6, rate=rate), precision=torch.float64)

    plain = train_plain(task, precision=torch.float64)
    np.testing.assert_allclose(flat(private), flat(plain), rtol=1e-5, atol=1e-8)
    assert private.loss is None


def test_the_noise_has_the_stated_deviation_and_no_offset():
    """Of the sum over cases: noise multiplier x clip, each weight by itself."""
    task = make_task(cases=6)
    silent = sum_of_steps(task, privately(clip=0.5))

    noise = np.stack([sum_of_steps(task, privately(2.0, 0.5, key=bytes([i]) * 32)) - silent for i in range(100)])

    numbers = noise.size
    assert noise.std() == pytest.approx(2.0 * 0.5, rel=4 / np.sqrt(2 * numbers))
    assert abs(noise.mean()) < 4 / np.sqrt(numbers)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.4


def test_cases_are_sampled_with_the_stated_probability_and_an_empty_sample_is_a_step_of_noise():
    """Of two cases at rate 0.1 four samples in five are empty; every step moves the weights, and none breaks them."""
    task = make_task(cases=2, strategy="fedavg", local_epochs=3)

    update = flat(train_private(task, privately(1.0, rate=0.1)))

    assert np.isfinite(update).all()
    # 30 steps of noise of deviation 1 / (0.1 x 2), and at most two clipped gradients each.
    assert update.std() == pytest.approx(np.sqrt(30) * 5, rel=0.25)


def test_one_key_gives_one_update_and_another_key_another():
    task = make_task()

    first, again, other = (
        flat(train_private(task, privately(1.0, rate=0.5, key=key))) for key in (b"a" * 32, b"a" * 32, b"b" * 32)
    )

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
