"""ComBat: whoever holds the cases, the harmonised values are the same; what cannot be fitted is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config.harmonisation import HarmonisationSettings
from common.errors import Refused
from common.stats.combat import BatchDesign, apply_shifts, fit_new_batch
from common.tables import TestTable, TrainingTable
from simulation.statistics.federated_combat import CombatSite, federated_combat

FEATURES = 15
OPTIONS = st.fixed_dictionaries(
    {
        "empirical_bayes": st.booleans(),
        "mean_only": st.booleans(),
        "small_batches": st.sampled_from(["shrunk_mean", "as_neurocombat"]),
        "reference_batch": st.sampled_from(["", "scanner-0"]),
    }
)


@st.composite
def cohorts(draw):
    """Cases with scanners (some tiny) and covariates; features of wild scales, one constant."""
    cases = draw(st.integers(24, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scanner = np.array([f"scanner-{i}" for i in rng.integers(0, draw(st.integers(1, 6)), cases)])
    scanner[:6] = "scanner-0"
    age, sex = rng.uniform(8, 80, cases), rng.integers(0, 2, cases).astype(float)
    values = rng.standard_normal((cases, FEATURES)) + 0.02 * age[:, None]
    values += np.array([rng.standard_normal(FEATURES) for _ in range(6)])[[int(s[-1]) for s in scanner]]
    values = values * 10.0 ** rng.integers(-5, 7, FEATURES)
    values[:, 0] = 3.25
    owner = rng.integers(0, draw(st.integers(1, 5)), cases)
    return values, scanner, np.stack([age, sex], axis=1), owner


def _sites(values, scanner, covariates, owner, order=None):
    names = tuple(f"f{i:02d}" for i in range(values.shape[1]))
    return [
        CombatSite(
            TrainingTable(names, values[owner == s], np.zeros((owner == s).sum(), bool)),
            BatchDesign(tuple(scanner[owner == s]), covariates[owner == s], ("age", "sex")[: covariates.shape[1]]),
        )
        for s in (order if order is not None else sorted(set(owner)))
    ]


def _harmonised(values, owner, sites, order, chosen):
    model = federated_combat(sites, chosen)
    out = np.empty_like(values)
    for place, s in enumerate(order):
        out[owner == s] = model.apply(place, sites[place].table.values, sites[place].design)
    return out


@settings(deadline=None, max_examples=40)
@given(cohorts(), OPTIONS, st.randoms(use_true_random=False))
def test_any_partition_in_any_order_gives_the_pooled_result(cohort, options, random):
    """1e-9 of a feature's deviation; a site split in two is one more partition."""
    values, scanner, covariates, owner = cohort
    chosen = HarmonisationSettings(method="combat", **options)
    order = sorted(set(owner))
    random.shuffle(order)
    everyone = np.zeros(len(values), int)

    pooled = _harmonised(values, everyone, _sites(values, scanner, covariates, everyone), [0], chosen)
    found = _harmonised(values, owner, _sites(values, scanner, covariates, owner, order), order, chosen)

    deviation = np.maximum(values.std(axis=0), 1e-12)
    np.testing.assert_allclose((found - pooled) / deviation, 0, atol=1e-9)
    np.testing.assert_array_equal(values[:, 0], found[:, 0])


@settings(deadline=None, max_examples=20)
@given(cohorts())
def test_a_new_scanner_joins_without_touching_the_others(cohort):
    """Its own cases, without labels, bring its means near the study's; nobody else's values change."""
    values, scanner, covariates, owner = cohort
    chosen = HarmonisationSettings(method="combat")
    model = federated_combat(_sites(values, scanner, covariates, owner), chosen)
    rng = np.random.default_rng(0)
    ages = np.stack([rng.uniform(8, 80, 60), rng.integers(0, 2, 60)], axis=1)
    spread = np.sqrt(model.location.variance)
    strange = (
        model.location.alpha + ages @ model.location.beta + spread * (1.5 + 2 * rng.standard_normal((60, FEATURES)))
    )

    shift = fit_new_batch(strange, ages, model.location, chosen)
    found = apply_shifts(strange, BatchDesign(("new",) * 60, ages), model.location, {"new": shift})

    varies = model.location.varies
    residual = model.location.standardise(found, ages)[:, varies]
    assert np.abs(residual.mean()) < 0.1
    assert 0.8 < residual.std() < 1.2


def test_small_batches_move_by_a_shrunken_mean_and_keep_their_scale():
    """Nearer to the truth than no harmonisation, than their own mean and than neuroCombat's scale, at 1 to 4 cases."""
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((4 * 40, 200))
    big = np.repeat(["a", "b", "c", "d"], 40)
    effects = {name: 0.6 * rng.standard_normal(200) for name in "abcd"}
    values = truth + np.array([effects[b] for b in big])
    errors: dict[str, list[float]] = {"raw": [], "shrunk_mean": [], "as_neurocombat": []}
    for n in (1, 2, 3, 4):
        for _ in range(10):
            tiny, effect = rng.standard_normal((n, 200)), 0.6 * rng.standard_normal(200)
            seen = np.concatenate([values, tiny + effect])
            batch = np.concatenate([big, ["tiny"] * n])
            sites = _sites(seen, batch, np.zeros((len(seen), 0)), np.zeros(len(seen), int))
            errors["raw"].append(np.sqrt(np.mean(effect**2)))
            for rule in ("shrunk_mean", "as_neurocombat"):
                chosen = HarmonisationSettings(method="combat", covariates=(), small_batches=rule)
                model = federated_combat(sites, chosen)
                found = model.apply(0, seen, sites[0].design)[-n:]
                errors[rule].append(np.sqrt(np.mean((found - tiny - (values.mean(axis=0) - truth.mean(axis=0))) ** 2)))

    means = {rule: float(np.mean(found)) for rule, found in errors.items()}
    assert means["shrunk_mean"] < means["raw"]
    assert means["shrunk_mean"] < means["as_neurocombat"]


@pytest.mark.parametrize(
    ("covariates", "code"),
    [(np.ones((12, 1)), "covariate-constant"), (np.arange(12.0)[:, None] * [1.0, 2.0], "covariate-confounded")],
)
def test_covariates_that_cannot_be_kept_are_refused(covariates, code):
    sites = _sites(
        np.random.default_rng(0).normal(size=(12, 3)), np.array(["a", "b"] * 6), covariates, np.zeros(12, int)
    )

    with pytest.raises(Refused, match=code):
        federated_combat(sites, HarmonisationSettings(method="combat"))


def test_nothing_is_fitted_on_test_cases():
    values = np.random.default_rng(0).normal(size=(12, 3))
    site = CombatSite(
        TestTable(("a", "b", "c"), values, np.zeros(12, bool)),
        BatchDesign(("s",) * 12, np.zeros((12, 0))),
    )

    with pytest.raises(Refused, match="fit-on-test-cases"):
        federated_combat([site], HarmonisationSettings(method="combat"))


def test_a_scanner_without_training_cases_keeps_its_values():
    values = np.random.default_rng(0).normal(size=(12, 3))
    sites = _sites(values, np.array(["a", "b"] * 6), np.zeros((12, 0)), np.zeros(12, int))
    model = federated_combat(sites, HarmonisationSettings(method="combat", covariates=()))

    found = model.apply(0, values, BatchDesign(("never seen",) * 12, np.zeros((12, 0))))

    np.testing.assert_array_equal(values, found)
