"""Every value is PyRadiomics 3.0.1's, whatever the image, the mask and the preset; and the parts are its own."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from radiomics import cMatrices, cShape, imageoperations

from client.features.engine.grey_levels import bin_grey_levels
from client.features.engine.look_around import look_around
from client.features.engine.mesh import largest_diameters, surface_and_volume
from client.features.engine.region import Region
from client.features.engine.settings import EngineSettings
from client.features.engine.wavelet import cut_out, wavelet_bands, wavelet_names
from client.features.radiomics import extract_radiomics
from common.config.radiomics import RadiomicsSettings
from common.errors import InputError
from tests.plain_pyradiomics import PLAIN, assert_same, plain_features

SLOW = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
QUICK = settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
SPACINGS = ((1.0, 1.0, 1.0), (1.0, 1.0, 6.0), (0.7, 0.9, 5.5))


@st.composite
def cases(draw):
    """An image and a mask: small or thin, noisy or smooth or of few values, ROI at the border or not."""
    shape = tuple(
        draw(st.lists(st.integers(1, 14), min_size=3, max_size=3).filter(lambda s: sum(n > 1 for n in s) >= 2))
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.normal(size=shape) * 3
    smooth = sum(np.ogrid[: shape[0], : shape[1], : shape[2]]) * 0.7
    values = draw(st.sampled_from([noise, np.cumsum(noise, axis=0), np.round(noise), smooth + noise * 0.01]))
    image = sitk.GetImageFromArray(values.astype(draw(st.sampled_from(["f4", "f8"]))))
    mask = np.zeros(shape, np.uint8)
    low = [draw(st.integers(0, n - 1)) for n in shape]
    part = tuple(slice(a, draw(st.integers(a + 1, n))) for a, n in zip(low, shape, strict=True))
    mask[part] = rng.random(mask[part].shape) < draw(st.sampled_from([0.3, 0.6, 0.95, 1.0]))
    mask = sitk.GetImageFromArray(mask)
    spacing = draw(st.sampled_from(SPACINGS))
    image.SetSpacing(spacing)
    mask.SetSpacing(spacing)
    return image, mask


def check_case(case, preset):
    """Equal where PyRadiomics has values; refused where it refuses or answers NaN."""
    image, mask = case
    whole_image = sitk.GetArrayFromImage(mask).all()  # PyRadiomics takes a mask without background for an empty one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # its means of nothing
        try:
            expected = {} if whole_image else plain_features(image, mask, preset)
        except ValueError:
            expected = {"refused": np.nan}
    if whole_image:
        return
    if not np.isfinite(list(expected.values())).all():
        with pytest.raises(InputError, match=r"roi-|feature-not-finite|grey-levels-too-close"):
            extract_radiomics(image, None, mask, RadiomicsSettings(preset=preset))
        return
    found = extract_radiomics(image, None, mask, RadiomicsSettings(preset=preset))
    assert_same({f"T1CE_{k}": v for k, v in expected.items()}, dict(zip(found.names, found.values, strict=True)))


@pytest.mark.parametrize("preset", PLAIN)
@QUICK
@given(case=cases())
def test_every_value_is_pyradiomics_own(preset, case):
    check_case(case, preset)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PLAIN)
@SLOW
@given(case=cases())
def test_every_value_is_pyradiomics_own_at_length(preset, case):
    check_case(case, preset)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_wavelet_of_the_box_is_that_of_the_image(data):
    """To the last bit, for filters of 2 to 20 taps, two levels, two and three dimensions, anywhere in the image."""
    shape = [data.draw(st.integers(2, 40)) for _ in range(3)]
    engine = EngineSettings(
        wavelet=data.draw(st.sampled_from(["haar", "coif1", "db3", "sym10"])),
        level=data.draw(st.integers(1, 2)),
        start_level=data.draw(st.integers(0, 1)),
        flat_axis=data.draw(st.sampled_from([None, 0, 2])),
    )
    image = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=shape).astype(np.float32)
    low = [data.draw(st.integers(0, n - 1)) for n in shape]
    box = tuple(slice(a, data.draw(st.integers(a + 1, n))) for a, n in zip(low, shape, strict=True))

    found = dict(wavelet_bands(cut_out(image, box, engine), engine, wavelet_names(engine)))

    flat = {} if engine.flat_axis is None else {"force2D": True, "force2Ddimension": engine.flat_axis}
    words = {"wavelet": engine.wavelet, "level": engine.level, "start_level": engine.start_level}
    plain = imageoperations.getWaveletImage(sitk.GetImageFromArray(image), None, **words, **flat)
    expected = {name: sitk.GetArrayFromImage(band)[box] for band, name, _ in plain}
    assert set(wavelet_names(engine)) == set(expected)
    assert set(expected) == set(found)
    for name, band in expected.items():
        np.testing.assert_array_equal(found[name], band)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SPACINGS), st.sampled_from([0.2, 0.5, 0.9]))
def test_mesh_and_diameters(seed, spacing, density):
    rng = np.random.default_rng(seed)
    inside = np.pad(rng.random(rng.integers(1, 9, 3)) < density, 1)
    inside[tuple(n // 2 for n in inside.shape)] = True
    spacing = np.array(spacing[::-1])

    area, volume = surface_and_volume(inside, spacing)
    in_space, in_planes = largest_diameters(inside, spacing)

    expected_area, expected_volume, diameters = cShape.calculate_coefficients(inside, spacing)
    np.testing.assert_allclose([area, volume], [expected_area, expected_volume], rtol=1e-11)
    np.testing.assert_allclose([*in_planes, in_space], diameters, rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1,), (1, 2), (3,)]), st.sampled_from([None, 0, 1, 2]))
def test_pairs_at_any_distance(seed, distances, flat_axis):
    """The compiled GLCM counts the same pairs."""
    rng = np.random.default_rng(seed)
    box = rng.integers(1, 6, rng.integers(4, 8, 3))
    inside = rng.random(box.shape) < 0.7
    inside[0, 0, 0] = inside[-1, -1, -1] = True
    region = Region(inside, np.ones(3), distances, flat_axis)
    levels = bin_grey_levels(box[inside], EngineSettings(bin_width=1))

    found = look_around(region, levels, pairs=True, alike=False, total=False).pairs

    grid = np.zeros(box.shape, int)
    grid[inside] = levels.values[levels.rank - 1]
    options = (np.array(distances), levels.highest, flat_axis is not None, flat_axis or 0)
    expected, _ = cMatrices.calculate_glcm(grid, inside, *options)
    present = levels.values - 1
    np.testing.assert_array_equal(found, expected[0].transpose(2, 0, 1)[:, present][:, :, present])


def test_what_is_not_asked_for_changes_nothing():
    rng = np.random.default_rng(0)
    images = [sitk.GetImageFromArray(rng.normal(size=(20, 20, 20)).astype(np.float32)) for _ in range(2)]
    ball = sum((axis - 9) ** 2 for axis in np.ogrid[:20, :20, :20]) < 40
    mask = sitk.GetImageFromArray(ball.astype(np.uint8))
    everything = extract_radiomics(*images, mask, RadiomicsSettings())
    names = everything.names[3::97]

    some = extract_radiomics(*images, mask, RadiomicsSettings(), features=names)

    assert names == some.names
    value = dict(zip(everything.names, everything.values, strict=True))
    np.testing.assert_array_equal(some.values, [value[name] for name in names])
