"""Variants of the visual features: lengths, masking, projection, precision."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from client.device import choose_device
from client.features.visual import as_stored, extract_visual, project
from client.segment.weights import load_visual_network
from common.config.visual import VisualSettings
from common.errors import ConfigError, InputError
from common.networks.unet import build_unet, deepest_map
from common.seeds import stream
from tests.builders import small_protocol

NETWORK = load_visual_network(small_protocol(), device="cpu")
FLAT_NETWORK = load_visual_network(small_protocol(visual={"variant": "unet2d"}), device="cpu")


def _case():
    rng = np.random.default_rng(0)
    images = [sitk.GetImageFromArray(rng.normal(size=(20, 20, 20)).astype(np.float32)) for _ in range(2)]
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[4:14, 5:15, 6:16] = 1
    return (*images, sitk.GetImageFromArray(mask))


def _visual(*case: sitk.Image, **changes: object):
    settings = VisualSettings(crop_voxels=16, **changes)
    network = FLAT_NETWORK if settings.variant == "unet2d" else NETWORK
    return extract_visual(*case, settings, network=network, device="cpu")


def test_pooled_is_the_mean_of_each_channel():
    whole, pooled = _visual(*_case()), _visual(*_case(), variant="pooled")

    assert ((2048,), (256,)) == (whole.shape, pooled.shape)
    np.testing.assert_allclose(pooled, whole.reshape(256, -1).mean(axis=1), rtol=1e-5, atol=1e-6)


def test_one_sequence_alone_hides_the_other_from_the_network():
    """As if the other image were zero everywhere."""
    t1ce, flair, mask = _case()

    found = _visual(t1ce, flair, mask, sequences=("FLAIR",))

    np.testing.assert_array_equal(found, _visual(t1ce * 0, flair, mask))
    assert not np.array_equal(found, _visual(t1ce, flair, mask))


def test_projection_is_of_the_whole_map():
    found = _visual(*_case(), variant="random_projection", projection_seed=3)

    np.testing.assert_array_equal(project(_visual(*_case()), 3), found)
    assert not np.array_equal(found, _visual(*_case(), variant="random_projection", projection_seed=4))


def test_projection_against_its_matrix():
    """Signs, Hadamard, choice: written out."""
    values = np.random.default_rng(1).normal(size=500).astype(np.float32)
    rng = stream(9, "visual", "projection", 512)
    signs = rng.integers(0, 2, 512, dtype=np.int8) * 2.0 - 1
    matrix = (hadamard(512) * signs)[rng.choice(512, 256, replace=False)] / 16

    np.testing.assert_allclose(project(values, 9), matrix[:, :500] @ values, rtol=1e-4, atol=1e-4)


def _shifted(case, **slices):
    """Everything moved by whole voxels; the case is zero around."""
    return tuple(
        _like(image, np.roll(sitk.GetArrayFromImage(image), list(slices.values()), (0, 1, 2))) for image in case
    )


def _like(image, array):
    return sitk.GetImageFromArray(array.astype(sitk.GetArrayViewFromImage(image).dtype))


def test_two_dimensions_see_one_slice():
    """1024 x (edge / 4)^2 values of the slice with most tumour, whatever the other slices hold."""
    t1ce, flair, mask = _case()
    array = sitk.GetArrayFromImage(mask)
    array[7, 2:18, 2:18] = 1
    array[5] = 0
    widest = _like(mask, array)

    found = _visual(t1ce, flair, widest, variant="unet2d")

    assert (1024 * 4 * 4,) == found.shape
    assert 1_048_576 == VisualSettings(variant="unet2d").length == VisualSettings().length
    others = [sitk.GetArrayFromImage(image) for image in (t1ce, flair)]
    for image in others:
        image[np.arange(20) != 7] = 99
    np.testing.assert_array_equal(found, _visual(*map(sitk.GetImageFromArray, others), widest, variant="unet2d"))
    others[1][7, 9, 9] += 1
    assert not np.array_equal(found, _visual(*map(sitk.GetImageFromArray, others), widest, variant="unet2d"))


@pytest.mark.parametrize("variant", ["bottleneck", "unet2d"])
def test_features_follow_the_tumour(variant):
    """A case moved by whole voxels has the same features; masked or not differ."""
    inner = tuple(
        _like(image, np.pad(sitk.GetArrayFromImage(image)[:, 4:16, 4:16], ((6, 6), (10, 10), (10, 10))))
        for image in _case()
    )

    np.testing.assert_array_equal(
        _visual(*inner, variant=variant), _visual(*_shifted(inner, z=2, y=-3, x=5), variant=variant)
    )
    assert not np.allclose(_visual(*inner, variant=variant), _visual(*inner, variant=variant, outside="zeroed"))


def test_two_dimensional_map_is_the_lowest_layer():
    """A hook on the network's own forward pass sees the same values."""
    seen: list[torch.Tensor] = []
    network, volume = build_unet(2).eval(), torch.randn(1, 2, 64, 32)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == 1024:
            module.register_forward_hook(lambda _m, _i, out: seen.append(out))

    with torch.no_grad():
        network(volume)
        found = deepest_map(network, volume)

    assert (1, 1024, 4, 2) == tuple(found.shape)
    assert torch.equal(seen[0], seen[1])


def test_weights_of_another_network_are_told():
    absent = small_protocol(visual={"variant": "unet2d", "flat_weights": "nobody"})

    with pytest.raises(ConfigError, match=r"weights-missing.*visual\.flat_weights"):
        load_visual_network(absent, device="cpu")


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(300, 4096))
def test_projection_keeps_distances(seed, length):
    """Johnson and Lindenstrauss: 256 mixtures keep a length within a third."""
    values = np.random.default_rng(seed).normal(size=length).astype(np.float32)

    assert np.linalg.norm(project(values, seed)) == pytest.approx(np.linalg.norm(values), rel=0.34)


def test_zeroed_differs_from_kept():
    assert not np.allclose(_visual(*_case()), _visual(*_case(), outside="zeroed"))


def test_half_precision():
    """Its bound on values, and on a score that is their weighted sum."""
    whole = _visual(*_case())

    stored = as_stored(whole, VisualSettings()).astype(np.float32)

    assert np.float16 == as_stored(whole, VisualSettings()).dtype
    np.testing.assert_allclose(stored, whole, rtol=4.9e-4, atol=3e-8)
    weights = np.random.default_rng(0).normal(size=whole.size) / whole.size**0.5
    spread = np.linalg.norm(weights * whole)
    assert abs(weights @ (stored - whole)) < 5e-4 * spread * 3


def test_what_half_precision_cannot_hold_is_refused():
    huge = np.array([1e5], np.float32)

    assert np.float32 == as_stored(huge, VisualSettings(dtype="float32")).dtype
    with pytest.raises(InputError, match="visual-too-large"):
        as_stored(huge, VisualSettings())


def test_bad_images():
    t1ce, flair, mask = _case()
    array = sitk.GetArrayFromImage(t1ce)
    array[10, 10, 10] = np.nan

    with pytest.raises(InputError, match="visual-not-finite"):
        _visual(sitk.GetImageFromArray(array), flair, mask)
    with pytest.raises(InputError, match="roi-empty"):
        _visual(t1ce, flair, mask * 0)


@pytest.mark.parametrize("variant", ["bottleneck", "unet2d"])
def test_the_device_is_honoured(variant):
    """The images follow the network: on torch's device without memory the map is made and only its values are missing."""
    settings = VisualSettings(crop_voxels=16, variant=variant)
    network = build_unet(2 if variant == "unet2d" else 3).to("meta").eval()

    with pytest.raises(NotImplementedError, match="meta tensor"):
        extract_visual(*_case(), settings, network=network, device="meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this computer")
@pytest.mark.parametrize("variant", ["bottleneck", "unet2d", "pooled", "random_projection"])
def test_gpu_and_processor_agree(variant):
    protocol = small_protocol(visual={"variant": variant, "crop_voxels": 16})
    maps = [
        extract_visual(*_case(), protocol.visual, network=load_visual_network(protocol, device=device), device=device)
        for device in ("cpu", "cuda")
    ]

    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-2, atol=1e-2)


def test_auto_falls_back_on_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert ("cpu", "cuda:1") == (choose_device("auto"), choose_device("cuda:1"))
