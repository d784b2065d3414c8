"""Strategies: each against its paper's formula or against a plain computation, and none cares who answers first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from common.config.training import TrainingSettings
from common.stats.weight_norm import weight_norm
from server.strategy.strategies import STRATEGIES
from server.strategy.update import SiteUpdate
from server.strategy.weighting import site_weights

SHAPES = {"big": (3, 50_000), "small": (4,)}  # more than one block of arithmetic
CASES = (60, 24, 12, 30, 9)


def make_updates(seed, sites=3):
    """Changes of these sites, and the weights before."""
    rng = np.random.default_rng(seed)
    draw = lambda: {n: rng.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}  # noqa: E731
    total = sum(CASES[:sites])
    updates = [SiteUpdate(f"s{i}", n, draw(), float(n), n / total) for i, n in enumerate(CASES[:sites])]
    return draw(), updates


def merge(strategy, before, updates, memory=None, round_number=1, **training: object):
    found = TrainingSettings.model_validate({"strategy": strategy, **training})
    return STRATEGIES[strategy](before, updates, memory or {}, found, round_number)


def mean(updates):
    total = sum(u.weight for u in updates)
    return {n: sum(u.weight / total * u.changes[n].astype(np.float64) for u in updates) for n in SHAPES}


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**20), st.integers(1, 5), st.sampled_from(["fedavg", "fedsgd", "fedprox"]))
def test_averages_weigh_by_cases(seed, sites, strategy):
    before, updates = make_updates(seed, sites)

    after, memory = merge(strategy, before, updates)

    assert memory == {}
    for name, change in mean(updates).items():
        np.testing.assert_allclose(after[name], before[name] + change, atol=2e-6)
        assert after[name].dtype == np.float32


def test_server_momentum_is_the_heavy_ball():
    """As v <- 0.5 v + d; w <- w + v, three rounds."""
    (before, updates), velocity = make_updates(1), dict.fromkeys(SHAPES, 0.0)
    weights, memory, expected = before, {}, {n: w.astype(np.float64) for n, w in before.items()}
    for seed in (1, 2, 3):
        updates = make_updates(seed)[1]
        weights, memory = merge("fedavgm", weights, updates, memory)
        velocity = {n: 0.5 * velocity[n] + change for n, change in mean(updates).items()}
        expected = {n: expected[n] + velocity[n] for n in SHAPES}

    for name in SHAPES:
        np.testing.assert_allclose(weights[name], expected[name], atol=1e-5)


@pytest.mark.parametrize("strategy", ["fedadam", "fedyogi"])
def test_adaptive_rules_are_reddis(strategy):
    """Algorithm 2 of the paper, in double precision, three rounds."""
    before, _ = make_updates(4)
    weights, memory = before, {}
    expected = {n: w.astype(np.float64) for n, w in before.items()}
    first, second = dict.fromkeys(SHAPES, 0.0), dict.fromkeys(SHAPES, 1e-6)
    for seed in (1, 2, 3):
        updates = make_updates(seed)[1]
        weights, memory = merge(strategy, weights, updates, memory)
        for n, d in mean(updates).items():
            first[n] = 0.9 * first[n] + 0.1 * d
            adam = 0.99 * second[n] + 0.01 * d**2
            second[n] = adam if strategy == "fedadam" else second[n] - 0.01 * d**2 * np.sign(second[n] - d**2)
            expected[n] = expected[n] + 3e-3 * first[n] / (np.sqrt(second[n]) + 1e-3)

    for name in SHAPES:
        np.testing.assert_allclose(weights[name], expected[name], atol=1e-5)


def test_scaffold_server_follows_the_sites_variates():
    """The server's c is the share-weighted mean of c_k, each computed as the sites do, also when one stays away."""
    training = TrainingSettings(strategy="scaffold")
    before, updates = make_updates(5)
    own = {u.site: {n: np.zeros(s) for n, s in SHAPES.items()} for u in updates}
    memory = {}
    for present in ((0, 1, 2), (0, 2)):
        asked = [updates[i] for i in present]
        control = memory or {n: np.zeros(s) for n, s in SHAPES.items()}
        for u in asked:
            path = 1 / (training.steps(u.cases) * training.learning_rate)
            own[u.site] = {n: own[u.site][n] - control[n] - path * u.changes[n] for n in SHAPES}
        # The server never sees `own`.  A site's drift is c - c_k; here only the bookkeeping is under test.
        _, memory = merge("scaffold", before, asked, memory)

    for name in SHAPES:
        expected = sum(u.share * own[u.site][name] for u in updates)
        np.testing.assert_allclose(memory[name], expected, atol=1e-5)


def test_feddyn_ends_where_pooled_training_would():
    """Unlike quadratic losses, each site solved to its end in every round: FedAvg stops elsewhere, FedDyn does not."""
    rng = np.random.default_rng(11)
    curved = [np.diag(rng.uniform(0.2, 3.0, 4)) for _ in range(3)]
    centres = [rng.standard_normal(4) * 3 for _ in range(3)]
    cases = (60, 24, 12)
    total = sum(cases)
    shares = [n / total for n in cases]
    pooled = np.linalg.solve(
        sum(p * h for p, h in zip(shares, curved, strict=True)),
        sum(p * h @ c for p, h, c in zip(shares, curved, centres, strict=True)),
    )

    def run(strategy, pull):
        weights, memory, own = {"w": np.zeros(4, np.float32)}, {}, [np.zeros(4) for _ in cases]
        for number in range(1, 400):
            updates = []
            for k, (h, c) in enumerate(zip(curved, centres, strict=True)):
                start = weights["w"].astype(np.float64)
                there = np.linalg.solve(h + pull * np.eye(4), h @ c + own[k] + pull * start)
                own[k] = own[k] - pull * (there - start) if strategy == "feddyn" else own[k]
                change = {"w": (there - start).astype(np.float32)}
                updates.append(SiteUpdate(f"s{k}", cases[k], change, float(cases[k]), shares[k]))
            weights, memory = merge(strategy, weights, updates, memory, number, proximal=pull)
        return weights["w"]

    np.testing.assert_allclose(run("feddyn", 0.5), pooled, atol=1e-4)
    assert np.abs(run("fedprox", 0.5) - pooled).max() > 0.05


def test_weights_of_sites():
    """Cochran's weights make the mean of unlike sites least noisy; a claim beyond all measure is bounded."""
    cases, noise = {"a": 60, "b": 24, "c": 12}, {"a": 2.0, "b": 1.0, "c": 0.5}
    weigh = lambda kind, variances: site_weights(cases, variances, TrainingSettings(weighting=kind))  # noqa: E731

    assert {"a": 60.0, "b": 24.0, "c": 12.0} == weigh("cases", {})
    assert {"a": 1.0, "b": 1.0, "c": 1.0} == weigh("equal", {})
    found = np.array(list(weigh("inverse_variance", noise).values()))
    variance = lambda w: float((w**2 * np.array([2 / 60, 1 / 24, 0.5 / 12])).sum() / w.sum() ** 2)  # noqa: E731
    least = minimize(lambda w: variance(np.abs(w)), np.ones(3), method="Nelder-Mead", options={"xatol": 1e-9})
    assert variance(found) <= least.fun * (1 + 1e-6)
    assert weigh("inverse_variance", noise | {"c": 1e-30})["c"] == pytest.approx(12 / 0.25)


def test_geometric_median_minimises_the_distances():
    """Against a general optimiser over the factors of the changes."""
    before, updates = make_updates(6, 4)
    after, _ = merge("geometric_median", before, updates)
    flat = np.stack([np.concatenate([u.changes[n].ravel() for n in SHAPES]) for u in updates]).astype(np.float64)
    weights = np.array([u.weight for u in updates]) / sum(u.weight for u in updates)

    def cost(point):
        return float(weights @ np.linalg.norm(flat - point, axis=1))

    found = np.concatenate([(after[n].astype(np.float64) - before[n]).ravel() for n in SHAPES])
    best = minimize(lambda f: cost(f @ flat / f.sum()), weights, method="Nelder-Mead", options={"xatol": 1e-9})
    assert cost(found) <= best.fun * (1 + 1e-6)


@pytest.mark.parametrize("strategy", ["norm_clip", "coordinate_median", "trimmed_mean", "krum", "geometric_median"])
def test_one_scaled_update_does_not_carry_the_model_away(strategy):
    """The mean moves a thousandfold; a robust rule stays where honest sites are."""
    before, updates = make_updates(7, 5)
    hostile = {n: 1000 * c for n, c in updates[1].changes.items()}
    attacked = [*updates[:1], SiteUpdate("s1", 24, hostile, 24.0, updates[1].share), *updates[2:]]

    def moved(name, given):
        after, _ = merge(name, before, given)
        return weight_norm({n: after[n] - before[n] for n in SHAPES})

    honest = max(weight_norm(u.changes) for u in updates)
    assert moved(strategy, attacked) < 1.1 * honest
    assert moved("fedavg", attacked) > 50 * honest


@pytest.mark.parametrize("strategy", ["coordinate_median", "trimmed_mean"])
def test_coordinate_rules_equal_numpy(strategy):
    before, updates = make_updates(8, 5)
    stacked = np.stack([u.changes["big"] for u in updates]).astype(np.float64)
    expected = np.median(stacked, axis=0) if strategy == "coordinate_median" else np.sort(stacked, axis=0)[1:4].mean(0)

    after, _ = merge(strategy, before, updates)

    np.testing.assert_allclose(after["big"], before["big"] + expected, atol=2e-6)


def test_krum_takes_the_one_nearest_to_the_others():
    before, updates = make_updates(9, 5)
    centre = updates[0].changes
    near = [
        SiteUpdate(u.site, u.cases, {n: centre[n] + s * u.changes[n] for n in SHAPES}, u.weight, u.share)
        for u, s in zip(updates, (0.0, 0.1, 0.1, 0.1, 5.0), strict=True)
    ]

    after, _ = merge("krum", before, near)

    np.testing.assert_allclose(after["big"], before["big"] + centre["big"], atol=1e-6)
