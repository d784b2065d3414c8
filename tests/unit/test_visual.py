"""Variants of the visual features: lengths, masking, projection, precision."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from client.features.visual import as_stored, extract_visual, project
from client.segment.weights import load_network
from common.config.segmentation import SegmentationSettings
from common.config.visual import VisualSettings
from common.errors import InputError
from common.seeds import stream

NETWORK = load_network(SegmentationSettings(), device="cpu")


def _case():
    rng = np.random.default_rng(0)
    images = [sitk.GetImageFromArray(rng.normal(size=(20, 20, 20)).astype(np.float32)) for _ in range(2)]
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[4:14, 5:15, 6:16] = 1
    return (*images, sitk.GetImageFromArray(mask))


def _visual(*case: sitk.Image, **changes: object):
    return extract_visual(*case, VisualSettings(crop_voxels=16, **changes), network=NETWORK, device="cpu")


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
