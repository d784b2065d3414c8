"""The segmentation network: federated equals pooled, an interrupted training equals a whole one, nothing sees a test case."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.segment.weights import load_network
from client.site import open_site
from client.tasks.segment_cases import segment_cases, training_volumes
from client.tasks.segment_train import installed_weights, train_alone
from client.training.patches import TrainingVolumes, Volume
from client.training.segment_round import SegmentTask, train_segment_round
from common.config.segmentation import SegmenterTraining, UNetSettings
from common.errors import Refused
from common.networks.segmentation_network import first_weights
from server.strategy.strategies import STRATEGIES
from server.strategy.update import SiteUpdate
from tests.segment_site import NETWORK, head, segment_protocol, write_segment_site

torch.set_num_threads(1)

UNET = UNetSettings.model_validate(NETWORK)


def volumes(numbers):
    import SimpleITK as sitk

    heads = [head(n) for n in numbers]
    arrays = [[sitk.GetArrayFromImage(image) for image in (h.t1ce, h.flair, h.tumour_mask)] for h in heads]
    return TrainingVolumes(
        tuple(Volume(np.stack(a[:2]), a[2] > 0) for a in arrays), tuple(f"case-{n}" for n in numbers)
    )


def one_round(cases, weights, training, site="s", round_number=1):
    return train_segment_round(SegmentTask(cases, weights, UNET, training, 7, site, round_number))


@settings(deadline=None, max_examples=6)
@given(st.lists(st.integers(0, 2), min_size=5, max_size=5).filter(lambda owners: len(set(owners)) > 1))
def test_a_full_batch_step_federated_is_the_pooled_step(owners):
    """To single precision: 2e-6 of weights of about 0.1, over two rounds; who holds a case changes nothing."""
    training = SegmenterTraining(strategy="fedsgd", rounds=2, learning_rate=0.1, patch_voxels=16)
    pooled = federated = first_weights(UNET, seed=3)
    for number in (1, 2):
        everyone = one_round(volumes(range(5)), pooled, training, "everyone", number)
        pooled = {key: pooled[key] + everyone.changes[key] for key in pooled}
        updates = []
        for site in sorted(set(owners)):
            found = one_round(
                volumes([n for n in range(5) if owners[n] == site]), federated, training, str(site), number
            )
            updates.append(SiteUpdate(str(site), found.cases, found.changes, float(found.cases), found.cases / 5))
        federated, _ = STRATEGIES["fedsgd"](federated, updates, {}, training.merging, number)

    moved = max(float(np.abs(pooled[key] - first_weights(UNET, seed=3)[key]).max()) for key in pooled)
    assert moved > 1e-3
    for key, weight in pooled.items():
        np.testing.assert_allclose(federated[key], weight, rtol=0, atol=2e-6)


def test_training_lowers_the_loss():
    training = SegmenterTraining(rounds=8, learning_rate=1e-2, patch_voxels=32)
    cases, weights, losses = volumes(range(4)), first_weights(UNET, seed=3), []
    for number in range(1, 9):
        found = one_round(cases, weights, training, "s", number)
        weights = {key: weights[key] + found.changes[key] for key in weights}
        losses.append(found.loss)

    assert losses[-1] < 0.9 * losses[0]


def test_first_weights_come_from_the_seed_and_leave_torchs_own_stream_alone():
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    one, other = first_weights(UNET, seed=1), first_weights(UNET, seed=2)

    assert torch.equal(before, torch.rand(1))
    assert any(not np.array_equal(one[key], other[key]) for key in one)
    np.testing.assert_array_equal(one["model.0.conv.weight"], first_weights(UNET, seed=1)["model.0.conv.weight"])


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path):
    """Ctrl-C after two of three rounds; the same command goes on."""
    protocol = segment_protocol()
    whole, broken = (
        open_site(write_segment_site(tmp_path / kind, "aachen", protocol, 8, seed=0)) for kind in ("whole", "broken")
    )
    expected = train_alone(whole, "ours")

    def interrupt(done, _all, _loss):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_alone(broken, "ours", progress=interrupt)
    assert not (installed_weights(broken) / "ours.safetensors").exists()
    found = train_alone(broken, "ours")

    assert (0, 2) == (expected.resumed_after, found.resumed_after)
    assert expected.sha256 == found.sha256
    assert expected.losses == found.losses


def test_what_was_kept_of_another_training_is_not_gone_on_with(tmp_path):
    path = write_segment_site(tmp_path, "aachen", segment_protocol(), 8, seed=0)

    def interrupt(done, _all, _loss):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_alone(open_site(path), "ours", progress=interrupt)
    text = (path.parent / "protocol.yaml").read_text()
    (path.parent / "protocol.yaml").write_text(text.replace("learning_rate: 0.01", "learning_rate: 0.02"))

    with pytest.raises(Refused, match="another-training-here"):
        train_alone(open_site(path), "ours")
    assert train_alone(open_site(path), "ours", afresh=True).resumed_after == 0


def test_only_training_cases_are_fitted(tmp_path):
    """The view that trains holds no test case and none without a true mask."""
    site = open_site(write_segment_site(tmp_path, "aachen", segment_protocol(), 12, seed=0, without=2))

    fitted = set(training_volumes(site).names)

    cases = {case.row.pseudonym: case for case in segment_cases(site)}
    assert {name for name, case in cases.items() if case.labelled and not case.test} == fitted
    assert 7 == len(fitted)


def test_trained_weights_are_loaded_by_their_name(tmp_path):
    site = open_site(write_segment_site(tmp_path, "aachen", segment_protocol(), 8, seed=0))

    trained = train_alone(site, "ours")

    wanted = site.protocol.segmentation.model_copy(update={"weights": "ours", "weights_sha256": trained.sha256})
    network = load_network(wanted, device="cpu", installed=installed_weights(site))
    assert (1, 1, 16, 16, 16) == tuple(network(torch.zeros(1, 2, 16, 16, 16)).shape)


def test_too_few_or_no_masks_are_refused_by_name(tmp_path):
    few = open_site(write_segment_site(tmp_path / "few", "aachen", segment_protocol(), 4, seed=0))
    none = open_site(write_segment_site(tmp_path / "none", "aachen", segment_protocol(), 8, seed=0, without=8))

    with pytest.raises(Refused, match="too-few-cases"):
        train_alone(few, "ours")
    with pytest.raises(Refused, match="no-training-masks"):
        train_alone(none, "ours")
