"""Bad input: each a refusal that names what is wrong, or a result that is documented."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from client.features.radiomics import extract_radiomics
from common.catalogue import PAPER_SIGNATURE
from common.config.radiomics import RadiomicsSettings
from common.errors import ConfigError, InputError
from tests.plain_pyradiomics import assert_same, plain_features

EDGE = 24


def image(seed=0, *, edge=EDGE, dtype=np.float32):
    return sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=(edge,) * 3).astype(dtype))


def mask(*boxes: tuple[int, ...], edge=EDGE):
    """One label per box (z0, z1, y0, y1, x0, x1)."""
    array = np.zeros((edge,) * 3, np.uint8)
    for label, (z0, z1, y0, y1, x0, x1) in enumerate(boxes, 1):
        array[z0:z1, y0:y1, x0:x1] = label
    return sitk.GetImageFromArray(array)


CUBE = (6, 14, 6, 14, 6, 14)


@pytest.mark.parametrize(
    ("region", "code"),
    [
        (mask(), "roi-empty"),
        (mask((5, 6, 5, 6, 5, 6)), "roi-one-voxel"),
        (mask((5, 6, 5, 6, 5, 9)), "roi-too-flat"),
        (mask(CUBE, (15, 18, 15, 18, 15, 18)), "mask-several-labels"),
        (mask(CUBE, edge=20), "grid-differs.*size"),
    ],
)
def test_masks_that_cannot_be_used(region, code):
    with pytest.raises(InputError, match=code):
        extract_radiomics(image(), None, region, RadiomicsSettings())


def test_another_grid_is_refused():
    shifted = mask(CUBE)
    shifted.SetOrigin((0, 0, 3))

    with pytest.raises(InputError, match=r"grid-differs.*origin"):
        extract_radiomics(image(), None, shifted, RadiomicsSettings())


def test_a_named_label_is_taken_alone():
    several = mask(CUBE, (15, 18, 15, 18, 15, 18))

    found = extract_radiomics(image(), None, several, RadiomicsSettings(), label=1)

    np.testing.assert_array_equal(
        extract_radiomics(image(), None, mask(CUBE), RadiomicsSettings()).values, found.values
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("place", "field"), [((8, 8, 8), "original"), ((8, 8, 15), "wavelet-")])
def test_voxels_that_are_not_finite(bad, place, field):
    """In the region, or so near that a wavelet coefficient of the region holds them."""
    array = sitk.GetArrayFromImage(image())
    array[place] = bad

    with pytest.raises(InputError, match=f"voxels-not-finite.*{field}"):
        extract_radiomics(sitk.GetImageFromArray(array), None, mask(CUBE), RadiomicsSettings())


def test_far_voxels_do_not_matter():
    array = sitk.GetArrayFromImage(image())
    array[0, 0, 0] = np.nan

    found = extract_radiomics(sitk.GetImageFromArray(array), None, mask(CUBE), RadiomicsSettings())

    np.testing.assert_array_equal(
        extract_radiomics(image(), None, mask(CUBE), RadiomicsSettings()).values, found.values
    )


@pytest.mark.parametrize(
    ("factor", "dtype", "preset", "code"),
    [
        (1e9, np.float32, "paper_default", "too-many-grey-levels"),
        (2e4, np.float32, "paper_default", "too-many-grey-levels"),
        (4e37, np.float32, "ibsi_like_32", "intensities-too-large"),
        (1e9, np.int64, "paper_default", "too-many-grey-levels"),
    ],
)
def test_ranges_that_do_not_fit(factor, dtype, preset, code):
    """Bins that would overflow a matrix or a number are refused before memory is asked for."""
    huge = sitk.GetImageFromArray((sitk.GetArrayFromImage(image(dtype=np.float64)) * factor).astype(dtype))

    with pytest.raises(InputError, match=code):
        extract_radiomics(huge, None, mask(CUBE), RadiomicsSettings(preset=preset))


def test_first_order_needs_no_matrix():
    """Wide ranges are refused for textures only."""
    huge = sitk.GetImageFromArray(sitk.GetArrayFromImage(image()) * np.float32(2e4))

    found = extract_radiomics(
        huge, None, mask(CUBE), RadiomicsSettings(preset="paper_default"), features=("T1CE_original_firstorder_Mean",)
    )

    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    "region", [mask((5, 6, 4, 18, 4, 18)), mask((0, 24, 0, 5, 0, 24)), mask((20, 24, 20, 24, 20, 24)), mask(CUBE)]
)
@pytest.mark.parametrize("preset", ["ibsi_like_32", "thick_slice_2d"])
def test_one_slice_border_and_thick_slices(region, preset):
    """Documented results: PyRadiomics' own, on a 1 x 1 x 6 mm grid."""
    thick = image()
    for grid in (thick, region):
        grid.SetSpacing((1, 1, 6))

    found = extract_radiomics(thick, None, region, RadiomicsSettings(preset=preset))

    expected = {f"T1CE_{name}": value for name, value in plain_features(thick, region, preset).items()}
    assert_same(expected, dict(zip(found.names, found.values, strict=True)))


def test_two_dimensions_have_their_own_catalogue():
    flat = RadiomicsSettings(preset="thick_slice_2d")

    assert (958, 1702) == (len(flat.names()), len(RadiomicsSettings().names()))
    with pytest.raises(ConfigError, match="feature-unknown"):
        extract_radiomics(image(), image(1), mask(CUBE), flat, features=PAPER_SIGNATURE)


def test_two_lone_voxels_have_no_texture():
    lone = mask((3, 4, 3, 4, 3, 4), (9, 10, 12, 13, 3, 4)) != 0

    with pytest.raises(InputError, match="feature-not-finite"):
        extract_radiomics(image(), None, lone, RadiomicsSettings())


def test_an_unknown_wavelet_is_refused():
    with pytest.raises(ConfigError, match="wavelet-unknown"):
        extract_radiomics(image(), None, mask(CUBE), RadiomicsSettings(wavelet="mexh"))
