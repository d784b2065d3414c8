"""The network's family, its channels, windows and mirror images, and how sure it says it was."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from pydantic import ValidationError
from torch import nn

from client.segment.segment import segment_whole_tumour
from client.segment.weights import load_network
from common.config.protocol import Protocol
from common.config.segmentation import SegmentationSettings, UNetSettings
from common.networks.segmentation_network import SegmentationNetwork, deepest_map
from common.networks.unet import build_unet
from tests.segment_site import NETWORK, head

CASE = head(0)


class Bright(nn.Module):
    """A network that looks at one voxel only: tumour where FLAIR is bright, doubtful near the limit."""

    def __init__(self, sharp: float = 8.0, towards_left: bool = False) -> None:
        super().__init__()
        self.sharp, self.towards_left = sharp, towards_left

    def forward(self, pair):
        """One voxel at a time."""
        logits = self.sharp * (pair[:, 1:2] - 2.0)
        if self.towards_left:  # sees half of the head in the picture and half of it in the mirror
            logits = logits.clone()
            logits[..., : logits.shape[-1] // 2] = -9
        return logits


def run(network=None, **changes):
    settings = SegmentationSettings(smallest_component_ml=0.0, **changes)
    return segment_whole_tumour(
        CASE.t1ce, CASE.flair, CASE.brain_mask, settings, network=network or Bright(), device="cpu"
    )


@pytest.mark.parametrize("changes", [{"flips": "left_right"}, {"flips": "all"}, {"window_voxels": 16}])
def test_windows_and_mirror_images_change_nothing_of_a_network_that_looks_at_one_voxel(changes):
    plain, found = run(), run(**changes)

    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.mask), sitk.GetArrayFromImage(plain.mask))
    assert found.uncertainty == pytest.approx(plain.uncertainty, abs=1e-6)
    assert 0 == found.volume_spread


def test_uncertainty_is_entropy_in_bits():
    """A sure network is near 0, one that hardly tells is near 1, and mirror images that disagree show."""
    sure, unsure = run(Bright(sharp=50)).uncertainty, run(Bright(sharp=0.05)).uncertainty

    assert 0 <= sure < 0.02
    assert 0.98 < unsure <= 1
    assert run(Bright(towards_left=True), flips="left_right", threshold=0.4).volume_spread > 0.05


def test_the_default_network_is_the_plain_unet():
    """The shipped weights give the same logits in both."""
    network, plain = load_network(SegmentationSettings(), device="cpu"), build_unet().eval()
    plain.load_state_dict(network.core.state_dict())
    pair = torch.randn(1, 2, 16, 16, 16)

    with torch.no_grad():
        torch.testing.assert_close(network(pair), plain(pair))
        torch.testing.assert_close(deepest_map(network, pair), deepest_map(plain, pair))


def test_absent_sequences_are_zero():
    settings = UNetSettings.model_validate({**NETWORK, "inputs": ["t1", "t1ce", "t2", "flair"], "residual_units": 1})
    torch.manual_seed(0)
    network = SegmentationNetwork(settings).eval()
    t1ce, flair, zero = torch.randn(16, 16, 16), torch.randn(16, 16, 16), torch.zeros(16, 16, 16)

    with torch.no_grad():
        expected = network.core(torch.stack([zero, t1ce, zero, flair])[None])
        torch.testing.assert_close(network(torch.stack([t1ce, flair])[None]), expected)
        assert (1, 16, 2, 2, 2) == tuple(deepest_map(network, torch.randn(1, 2, 16, 16, 16)).shape)


@pytest.mark.parametrize("inputs", [["t1ce"], ["t1ce", "t1ce", "flair"], ["t1ce", "dwi"]])
def test_inputs_without_both_sequences_are_refused(inputs):
    with pytest.raises(ValidationError):
        UNetSettings.model_validate({"inputs": inputs})


def test_the_visual_map_must_be_as_deep_as_the_network():
    with pytest.raises(ValidationError, match=r"visual.channels is 256.*has 16; write that number"):
        Protocol.model_validate({"name": "p", "segmentation": {"network": NETWORK}})
    Protocol.model_validate({"name": "p", "segmentation": {"network": NETWORK}, "visual": {"channels": 16}})
    Protocol.model_validate({"name": "p", "segmentation": {"network": NETWORK}, "visual": {"variant": "none"}})


def test_how_the_network_learns_is_no_part_of_a_cases_key():
    """Its weights are, by their SHA-256; and the images' key knows nothing of any network."""
    plain, other = (
        Protocol.model_validate({"name": "p", "segmentation": part}) for part in ({}, {"training": {"rounds": 7}})
    )
    weights = Protocol.model_validate({"name": "p", "segmentation": {"weights_sha256": "0" * 64}})

    assert plain.preparation_fingerprint() == other.preparation_fingerprint() != weights.preparation_fingerprint()
    assert plain.image_fingerprint() == weights.image_fingerprint()
    assert plain.fingerprint() != other.fingerprint()
