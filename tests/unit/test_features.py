"""Radiomics equal plain PyRadiomics; the network's deepest map has the paper's length."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from client.features.radiomics import extract_radiomics
from client.features.visual import extract_visual
from client.segment.segment import segment_whole_tumour
from client.segment.weights import load_network
from common.catalogue import radiomics_names
from common.config.radiomics import RadiomicsSettings
from common.config.segmentation import SegmentationSettings
from common.config.visual import VisualSettings
from common.errors import ConfigError, InputError
from common.networks.unet import build_unet, deepest_map
from tests.plain_pyradiomics import assert_same, plain_features


def _case(seed: int = 0, edge: int = 40):
    rng = np.random.default_rng(seed)
    images = [sitk.GetImageFromArray(rng.normal(size=(edge,) * 3).astype(np.float32)) for _ in range(2)]
    z, y, x = np.ogrid[:edge, :edge, :edge]
    ball = ((z - 18) ** 2 + (y - 20) ** 2 + (x - 21) ** 2) < 9**2
    return (*images, sitk.GetImageFromArray(ball.astype(np.uint8)))


def test_both_sequences_are_pyradiomics_own():
    t1ce, flair, mask = _case()

    found = extract_radiomics(t1ce, flair, mask, RadiomicsSettings())

    expected = {f"T1CE_{name}": value for name, value in plain_features(t1ce, mask, "ibsi_like_32").items()}
    expected |= {f"FLAIR_{name}": value for name, value in plain_features(flair, mask, "ibsi_like_32").items()}
    assert radiomics_names() == found.names
    assert_same(expected, dict(zip(found.names, found.values, strict=True)))


def test_too_few_grey_levels_are_told():
    """F4: PyRadiomics' default bin width leaves a z-scored image almost without levels."""
    t1ce, flair, mask = _case()

    coarse = extract_radiomics(t1ce, flair, mask, RadiomicsSettings(preset="paper_default")).warnings
    fine = extract_radiomics(t1ce, flair, mask, RadiomicsSettings()).warnings

    assert any(text.startswith("T1CE original: 2 grey levels") for text in coarse)
    assert 18 == len(coarse)  # every filtered image of both sequences
    assert () == fine


def test_a_tiny_region_is_told():
    t1ce, flair, mask = _case()
    array = sitk.GetArrayFromImage(mask) * 0
    array[10:13, 10:13, 10:13] = 1

    warnings = extract_radiomics(t1ce, flair, sitk.GetImageFromArray(array), RadiomicsSettings()).warnings

    assert "whole tumour of 27 voxels; textures need at least 64" in warnings


def test_a_constant_region_is_told():
    flat = sitk.GetImageFromArray(np.zeros((30, 30, 30), np.float32))
    *_, mask = _case(edge=30)

    warnings = extract_radiomics(flat, flat, mask, RadiomicsSettings()).warnings

    assert "T1CE original: 1 grey levels" in warnings


@pytest.mark.parametrize("edge", [16, 64, pytest.param(128, marks=pytest.mark.slow)])
def test_visual_length(edge):
    """256 x (edge/8)^3; 1,048,576 for 128 (R21)."""
    t1ce, flair, mask = _case()
    settings = VisualSettings(crop_voxels=edge)
    network = load_network(SegmentationSettings(), device="cpu")

    found = extract_visual(t1ce, flair, mask, settings, network=network, device="cpu")

    assert (settings.length,) == found.shape
    assert 256 * (edge // 8) ** 3 == settings.length


def test_deepest_map_is_the_lowest_layer():
    """A hook on the network's own forward pass sees the same values."""
    torch.manual_seed(0)
    network, volume = build_unet().eval(), torch.randn(1, 2, 16, 16, 16)
    seen: list[torch.Tensor] = []
    for module in network.modules():
        module.register_forward_hook(lambda _m, _i, out: seen.append(out) if out.shape[1] == 256 else None)

    with torch.no_grad():
        network(volume)
        last = [out for out in seen if out.shape[2:] == (2, 2, 2)][-1]
        found = deepest_map(network, volume)

    torch.testing.assert_close(found, last)


def test_other_weights_are_refused():
    with pytest.raises(ConfigError, match="weights-differ"):
        load_network(SegmentationSettings(weights_sha256="0" * 64), device="cpu")
    with pytest.raises(ConfigError, match="weights-missing"):
        load_network(SegmentationSettings(weights="nobody"), device="cpu")


def test_no_tumour_is_told():
    blank = sitk.GetImageFromArray(np.zeros((32, 32, 32), np.float32))
    blank.SetSpacing((2, 2, 2))
    brain = sitk.Cast(blank + 1, sitk.sitkUInt8)

    network = load_network(SegmentationSettings(), device="cpu")
    with pytest.raises(InputError, match="no-tumour-found"):
        segment_whole_tumour(blank, blank, brain, SegmentationSettings(), network=network, device="cpu")
