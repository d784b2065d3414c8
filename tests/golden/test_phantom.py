"""The shipped values are plain PyRadiomics 3.0.1's, and no voxel sits where rounding could move it to another bin."""

from __future__ import annotations

import logging
import time

import numpy as np
import pytest
import pywt
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor

from client.features.engine.roi import find_roi
from client.features.engine.wavelet import cut_out, wavelet_bands, wavelet_names
from client.features.phantom import expected_values, make_phantom, measure_phantom
from client.features.radiomics import engine_settings
from common.config.radiomics import PRESET_NAMES, RadiomicsSettings
from tests.plain_pyradiomics import PLAIN, plain_features


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_shipped_values_are_plain_pyradiomics(preset):
    t1ce, flair, mask = make_phantom()

    shipped = expected_values(RadiomicsSettings(preset=preset))

    expected = {f"T1CE_{name}": value for name, value in plain_features(t1ce, mask, preset).items()}
    expected |= {f"FLAIR_{name}": value for name, value in plain_features(flair, mask, preset).items()}
    assert sorted(expected) == sorted(shipped)
    for name, value in expected.items():
        assert shipped[name] == pytest.approx(value, rel=1e-9, abs=1e-13), name


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_every_wavelet_that_a_protocol_can_name_is_locked(preset):
    """By what plain PyRadiomics finds in its bands."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    t1ce, _, mask = make_phantom()
    scaled = t1ce * 100.0 if preset == "pyrad_mr" else t1ce
    for wavelet in set(pywt.wavelist(kind="discrete")) - {"coif1"}:
        extractor = RadiomicsFeatureExtractor(**PLAIN[preset], wavelet=wavelet, additionalInfo=False)
        extractor.disableAllImageTypes()
        extractor.enableImageTypeByName("Wavelet")
        extractor.disableAllFeatures()
        extractor.enableFeaturesByName(firstorder=["90Percentile"])
        found = {f"T1CE_{name}": float(value) for name, value in extractor.execute(scaled, mask).items()}

        shipped = expected_values(RadiomicsSettings(preset=preset, wavelet=wavelet))

        assert found == pytest.approx({n: v for n, v in shipped.items() if "_wavelet-" in n}, rel=1e-8), wavelet


def test_the_phantom_is_the_same_everywhere():
    """Sums of its voxels, in whole numbers."""
    t1ce, flair, mask = (sitk.GetArrayFromImage(image) for image in make_phantom())

    sums = [int((image * 2048).sum()) for image in (t1ce, flair)] + [int(mask.sum())]

    assert [-1030960, -1365476, 871] == sums


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_no_voxel_lies_on_the_edge_of_a_bin(preset):
    settings = engine_settings(RadiomicsSettings(preset=preset))
    t1ce, flair, mask = make_phantom()
    roi = find_roi(sitk.GetArrayViewFromImage(mask))
    for image in (t1ce, flair):
        cut = cut_out(sitk.GetArrayViewFromImage(image), roi.box, settings)
        for name, band in wavelet_bands(cut, settings, wavelet_names(settings)):
            voxels = np.sort(band[roi.inside]) * (100 if preset == "pyrad_mr" else 1)
            low, high = voxels[0], voxels[-1]
            width = (high - low) / settings.bin_count if settings.bin_count else settings.bin_width
            place = (voxels[1:-1] - (low if settings.bin_count else 0)) / width
            assert np.abs(place - np.round(place)).min() > 1e-8, name


def test_it_takes_less_than_a_second():
    measure_phantom.cache_clear()
    begun = time.perf_counter()

    measure_phantom(RadiomicsSettings())

    assert time.perf_counter() - begun < 1
