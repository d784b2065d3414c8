"""Site-level privacy: no site moves the mean by more than clip / sites, and the noise is as loud as stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config.privacy import SiteLevelSettings
from common.config.training import TrainingSettings
from common.privacy.accounting import epsilon_of
from common.privacy.noise import NoiseStream
from server.strategy.fedavg import fedavg
from server.strategy.site_level import private_mean, site_level_event
from server.strategy.update import SiteUpdate

LAWS = settings(deadline=None, max_examples=30, derandomize=True)


def updates(seed: int, sites: int, size: float) -> list[SiteUpdate]:
    rng = np.random.default_rng(seed)
    return [
        SiteUpdate(
            f"site-{i}",
            10 + i,
            {
                "a": (size * rng.standard_normal((3, 2))).astype(np.float32),
                "b": (size * rng.standard_normal(4)).astype(np.float32),
            },
            weight=1.0,
            share=0.0,
        )
        for i in range(sites)
    ]


def mean(changes: list[SiteUpdate], clip: float, noise: float = 0.0, key: bytes = b"k" * 32) -> np.ndarray:
    asked = SiteLevelSettings(largest_update=clip, noise_multiplier=noise)
    found = private_mean(changes, asked, NoiseStream(key)).changes
    return np.concatenate([found["a"].ravel(), found["b"]]).astype(np.float64)


@LAWS
@given(st.integers(0, 2**20), st.integers(2, 6), st.sampled_from([0.01, 1.0, 1e4]))
def test_a_site_that_sends_zeros_instead_moves_the_mean_by_at_most_its_clip(seed, sites, size):
    sent, clip = updates(seed, sites, size), 0.5
    silent = SiteUpdate("site-0", 10, {n: np.zeros_like(a) for n, a in sent[0].changes.items()}, 1.0, 0.0)

    moved = np.linalg.norm(mean(sent, clip) - mean([silent, *sent[1:]], clip))

    assert moved <= clip / sites * (1 + 1e-5)
    if size > 1:
        assert moved == pytest.approx(clip / sites, rel=1e-5)


def test_without_noise_and_clip_it_is_federated_averaging_of_equal_sites():
    sent, before = updates(1, 3, 0.1), {"a": np.ones((3, 2), np.float32), "b": np.ones(4, np.float32)}
    merged = private_mean(sent, SiteLevelSettings(largest_update=100, noise_multiplier=0), NoiseStream(b"k" * 32))

    one, _ = fedavg(before, [merged], {}, TrainingSettings(), 1)
    plain, _ = fedavg(before, sent, {}, TrainingSettings(), 1)

    for name in before:
        np.testing.assert_allclose(one[name], plain[name], atol=1e-7)


def test_the_noise_of_the_mean_has_the_stated_deviation():
    sent = updates(2, 4, 1.0)
    noise = np.stack([mean(sent, 0.5, 3.0, bytes([i]) * 32) for i in range(200)]) - mean(sent, 0.5)

    assert noise.std() == pytest.approx(3.0 * 0.5 / 4, rel=4 / np.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4 * 0.375 / np.sqrt(noise.size)


def test_every_round_is_one_gaussian_mechanism():
    asked = SiteLevelSettings(noise_multiplier=4.0)

    assert epsilon_of([site_level_event(asked, 20)], 1e-2) == pytest.approx(
        epsilon_of([site_level_event(asked, 1)] * 20, 1e-2)
    )
