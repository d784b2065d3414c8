"""Training on the Gram matrix equals plain torch: same steps, other coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.fused import train_plain
from client.training.gram import train_gram
from client.training.local_task import LocalTask
from client.training.low_rank import factorise
from client.visual_maps import VisualMaps
from common.config.modelling import HeadSettings
from common.config.training import TrainingSettings
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.messages.weight_update import LowRank
from common.networks.fused_head import initial_weights
from common.tables import TrainingTable

LENGTH, HIDDEN, NAMES = 4200, 4, ("a", "b", "c")
LAWS = settings(deadline=None, max_examples=10, derandomize=True)


def make_task(
    seed, cases, relu="visual", *, drift=False, dtype=np.float16, class_weights=(1.0, 1.0), **training: object
):
    """A site with random features that lean on the label, offset and unequal in scale as ReLU maps are."""
    rng = np.random.default_rng(seed)
    head, altered = HeadSettings(hidden=HIDDEN, relu=relu), np.arange(cases) % 2 == 0
    maps = np.abs(rng.standard_normal((cases, LENGTH)) + 0.1 * altered[:, None]).astype(dtype)
    weights = initial_weights(LENGTH, len(NAMES), head, seed=seed)
    model = ModelState(
        harmoniser=Harmoniser(),
        weights=weights,
        signature=NAMES,
        radiomics_mean=np.zeros(3),
        radiomics_deviation=np.ones(3),
        visual_mean=maps.mean(axis=0, dtype=np.float64).astype(np.float32),
        visual_deviation=maps.std(axis=0, dtype=np.float64).astype(np.float32),
    )
    pull = {n: 0.01 * rng.standard_normal(w.shape).astype(np.float32) for n, w in weights.items()} if drift else {}
    table = TrainingTable(NAMES, rng.standard_normal((cases, 3)) + altered[:, None], altered)
    protocol = TrainingSettings(**{"learning_rate": 0.3, "local_epochs": 2, "batch_size": 4, **training})
    return LocalTask(
        table, VisualMaps.of(maps), model, head, protocol, seed, "site", 1, class_weights=class_weights, drift=pull
    )


def distance(ours, theirs):
    """Largest of the arrays' relative differences (Frobenius)."""
    return max(np.linalg.norm(ours[n] - theirs[n]) / np.linalg.norm(theirs[n]) for n in theirs)


tasks = st.builds(
    make_task,
    st.integers(0, 2**20),
    st.integers(5, 14),
    st.sampled_from(["visual", "paper_literal", "none"]),
    drift=st.booleans(),
    dtype=st.sampled_from([np.float16, np.float32]),
    class_weights=st.sampled_from([(1.0, 1.0), (0.7, 1.6)]),
    strategy=st.sampled_from(["fedavg", "fedsgd", "fedprox"]),
    momentum=st.sampled_from([0.0, 0.9]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    batch_size=st.sampled_from([0, 3, 4, 16]),
    schedule=st.sampled_from(["constant", "cosine"]),
)


@LAWS
@given(tasks)
def test_the_gram_engine_takes_torchs_steps(task):
    """In double precision to 1e-9 of the change, whatever the optimiser, the ReLU, the batches."""
    plain = train_plain(task, precision=torch.float64)

    gram = train_gram(task, precision=torch.float64)

    assert distance(gram.changes, plain.changes) < 2e-7  # changes are handed over in single precision
    assert abs(gram.loss - plain.loss) < 1e-12


@LAWS
@given(tasks)
def test_single_precision_stays_within_1e5_of_plain_torch(task):
    gram, plain = train_gram(task), train_plain(task)

    assert distance(gram.changes, plain.changes) < 1e-5
    assert abs(gram.loss - plain.loss) < 1e-6


@LAWS
@given(tasks, st.sampled_from([1e-1, 1e-3, 1e-6]))
def test_low_rank_changes_keep_their_tolerance(task, tolerance):
    """From the Gram matrix and from the plain change alike; without a drift there is nothing else to send."""
    whole = train_gram(task).changes["visual.weight"]
    kept = train_gram(task, rank_tolerance=tolerance).changes["visual.weight"]

    for found in (kept, factorise(whole, tolerance)):
        if isinstance(found, LowRank):
            dense = found.dense(task.model.weights["visual.weight"])
            decay = np.linalg.norm(found.kept * task.model.weights["visual.weight"])
            assert np.linalg.norm(dense - whole) <= (tolerance + 1e-5) * (np.linalg.norm(whole) + decay)


@pytest.mark.parametrize(("relu", "rank"), [("none", 1), ("paper_literal", 2), ("visual", HIDDEN)])
def test_without_relu_one_rank_is_exact(relu, rank):
    """All hidden units see the same two logits' gradients through fixed fusion weights in the first step."""
    task = make_task(3, 12, relu, strategy="fedsgd", weight_decay=0.0)

    change = train_gram(task, rank_tolerance=0.0).changes["visual.weight"]

    assert change.left.shape[1] <= rank
    np.testing.assert_allclose(
        change.dense(task.model.weights["visual.weight"]), train_plain(task).changes["visual.weight"], atol=1e-8
    )
