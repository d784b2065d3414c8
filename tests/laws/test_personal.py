"""What a site keeps for itself: its normalisation and its last layer; both fitted on training cases alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from client.site import open_site
from client.tasks.load_cohort import load_cohort
from client.training.gradient_variance import gradient_variance
from client.training.local_task import LocalTask, mean_loss, targets
from client.training.personal import LAST_LAYER, own_last_layer, own_normalisation
from client.training.score import safety_margins
from common.config.training import TrainingSettings
from common.errors import Refused
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.networks.fused_head import FusedHead, initial_weights
from tests.builders import small_protocol, write_site


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A hospital's cases, a model whose statistics are somebody else's, and the protocol."""
    protocol = small_protocol()
    cohort = load_cohort(open_site(write_site(tmp_path_factory.mktemp("site"), "aachen", protocol, 32, seed=3)))
    signature = cohort.training.table.names[:4]
    model = ModelState(
        harmoniser=Harmoniser(),
        weights=initial_weights(protocol.visual.length, 4, protocol.head, seed=1),
        signature=signature,
        radiomics_mean=np.ones(4) * 1e-3,
        radiomics_deviation=np.ones(4) * 2e-3,
        visual_mean=np.full(protocol.visual.length, 0.1, np.float32),
        visual_deviation=np.full(protocol.visual.length, 1.3, np.float32),
    )
    return cohort, model, protocol


def last_layer(here, pull, **head):
    cohort, model, protocol = here
    settings = protocol.head.model_copy(update=head)
    return own_last_layer(model, cohort.training.table, cohort.training.visual, head=settings, pull=pull)


def test_an_infinite_pull_leaves_the_studys_layer(here):
    _, model, _ = here
    found = last_layer(here, 1e9)

    for name, weight in model.weights.items():
        np.testing.assert_allclose(found.weights[name], weight, atol=1e-6)


def test_only_the_last_layer_moves_and_its_loss_falls(here):
    cohort, model, _ = here
    found = last_layer(here, 0.1)

    moved = {n for n, w in model.weights.items() if not np.array_equal(found.weights[n], w)}
    assert moved == set(LAST_LAYER)
    margins = [safety_margins(cohort.training.table, cohort.training.visual, m, head=here[2].head, device="cpu")
               for m in (model, found)]  # fmt: skip
    truth = np.where(cohort.training.table.altered, -1, 1)
    before, after = (float(np.mean(np.log1p(np.exp(-truth * m)))) for m in margins)
    assert after < before


def test_the_personal_layer_is_ridge_regression_about_the_studys(here):
    """With the study's layer at zero, scikit-learn's logistic regression gives the same margins.

    Two logits pulled alike are one difference pulled half: C = 1 / (pull / 2 x cases).
    """
    cohort, model, protocol = here
    zero = {name: np.zeros_like(model.weights[name]) for name in LAST_LAYER}
    start = model.model_copy(update={"weights": {**model.weights, **zero}})
    train, pull = cohort.training, 0.3
    found = own_last_layer(start, train.table, train.visual, head=protocol.head, pull=pull)

    standard = (train.visual.to_array() - model.visual_mean) / model.visual_deviation / np.sqrt(train.visual.length)
    hidden = np.maximum(standard @ model.weights["visual.weight"].T + model.weights["visual.bias"], 0)
    radiomics = (train.table.columns(model.signature).values - model.radiomics_mean) / model.radiomics_deviation
    # The intercept is pulled, too: a column of ones.
    inputs = np.hstack([hidden, radiomics, np.ones((len(train.table), 1))])
    expected = LogisticRegression(C=2 / (pull * len(train.table)), fit_intercept=False, tol=1e-10, max_iter=10_000)
    expected.fit(inputs, ~train.table.altered)

    margins = safety_margins(train.table, train.visual, found, head=protocol.head, device="cpu")
    np.testing.assert_allclose(margins, inputs @ expected.coef_[0], atol=1e-4)


def test_test_cases_cannot_be_fitted_on(here):
    cohort, model, protocol = here
    test = cohort.test

    with pytest.raises(Refused, match="fit-on-test-cases"):
        own_last_layer(model, test.table, test.visual, head=protocol.head, pull=0.1)
    with pytest.raises(Refused, match="fit-on-test-cases"):
        own_normalisation(model, test.table, test.visual)


def test_own_normalisation_takes_a_scanners_shift_away(here):
    """Every feature of the site scaled and moved: with its own normalisation no score moves."""
    cohort, model, protocol = here
    train = cohort.training
    shifted = train.table.with_values(train.table.values * 3 + 5)
    margins = [
        safety_margins(
            table, train.visual, own_normalisation(model, table, train.visual), head=protocol.head, device="cpu"
        )
        for table in (train.table, shifted)
    ]

    np.testing.assert_allclose(margins[0], margins[1], atol=1e-9)


@pytest.mark.parametrize("relu", ["visual", "none", "paper_literal"])
def test_the_gradients_variance_is_torchs(here, relu):
    """Against one backward pass per case through the whole network."""
    cohort, model, protocol = here
    train = cohort.training
    head = protocol.head.model_copy(update={"relu": relu})
    weights = {**model.weights, "fusion.bias": model.weights["fusion.bias"] + np.float32(0.3)}
    model = model.model_copy(update={"weights": weights})
    training = TrainingSettings(weighting="inverse_variance")
    task = LocalTask(train.table, train.visual, model, head, training, 1, "aachen", 1, class_weights=(0.7, 1.6))
    network = FusedHead(train.visual.length, 4, head)
    network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in model.weights.items()})
    network.double()
    scaled = (train.visual.to_array() - model.visual_mean) / model.visual_deviation / np.sqrt(train.visual.length)
    radiomics = (train.table.columns(model.signature).values - model.radiomics_mean) / model.radiomics_deviation
    each = []
    for i in range(len(train.table)):
        network.zero_grad()
        logits = network(torch.from_numpy(scaled[i : i + 1]).double(), torch.from_numpy(radiomics[i : i + 1]))
        mean_loss(logits, targets(train.table, "cpu")[i : i + 1], task.class_weights).backward()
        each.append(torch.cat([network.fusion.weight.grad.ravel(), network.fusion.bias.grad]).numpy())

    assert gradient_variance(task) == pytest.approx(np.var(each, axis=0, ddof=1).sum(), rel=1e-5)
    assert gradient_variance(replace(task, threads=2)) == gradient_variance(task)
