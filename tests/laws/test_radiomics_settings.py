"""Any settings of a PyRadiomics parameter file give PyRadiomics' values, on any image."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from radiomics.featureextractor import RadiomicsFeatureExtractor

from client.features.parameter_file import extract_with_parameters, read_parameters
from common.errors import InputError
from tests.plain_pyradiomics import assert_same

CHOICES = {
    "binWidth": st.sampled_from([0.7, 5, 25.0]),
    "binCount": st.integers(1, 40),
    "distances": st.sampled_from([[1], [2], [1, 2], [3, 1]]),
    "force2D": st.booleans(),
    "force2Ddimension": st.integers(0, 2),
    "symmetricalGLCM": st.booleans(),
    "weightingNorm": st.sampled_from(["euclidean", "manhattan", "infinity", "no_weighting"]),
    "gldm_a": st.integers(0, 3),
    "voxelArrayShift": st.sampled_from([0, 300]),
    "normalize": st.booleans(),
    "normalizeScale": st.sampled_from([1, 100]),
    "removeOutliers": st.sampled_from([1.5, 3]),
    "resegmentRange": st.sampled_from([[-1, 1], [-2.5]]),
    "resegmentMode": st.sampled_from(["absolute", "sigma"]),
    "resegmentShape": st.booleans(),
    "minimumROIDimensions": st.integers(1, 3),
    "minimumROISize": st.integers(2, 30),
    "resampledPixelSpacing": st.sampled_from([[2, 2, 2], [0, 0, 1.5]]),
    "preCrop": st.booleans(),
    "padDistance": st.integers(0, 4),
}
WAVELETS = st.fixed_dictionaries(
    {},
    optional={
        "wavelet": st.sampled_from(["haar", "coif1", "db4", "bior2.2"]),
        "level": st.integers(1, 2),
        "start_level": st.integers(0, 1),
    },
)
FAMILIES = ["shape", "firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm"]
QUICK = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
SLOW = settings(
    deadline=None, max_examples=100, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate]
)


@st.composite
def extractions(draw):
    """Parameters, image and mask with two labels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(3, 14)] * 3))
    image = sitk.GetImageFromArray((np.cumsum(rng.normal(size=shape), axis=2) * 3).astype("f4"))
    labels = rng.choice([0, 1, 2], size=shape, p=draw(st.sampled_from([(0.2, 0.7, 0.1), (0.6, 0.3, 0.1)])))
    mask = sitk.GetImageFromArray(labels.astype(np.uint8))
    spacing = draw(st.sampled_from([(1, 1, 1), (0.8, 1.1, 4.0)]))
    for grid in (image, mask):
        grid.SetSpacing(spacing)
    chosen = draw(st.fixed_dictionaries({}, optional=CHOICES))
    return (
        {
            "setting": {"label": draw(st.integers(1, 2)), **chosen},
            "imageType": {"Original": {}, "Wavelet": draw(WAVELETS)},
            "featureClass": {
                family: [] for family in draw(st.lists(st.sampled_from(FAMILIES), min_size=1, unique=True))
            },
        },
        image,
        mask,
    )


def check(extraction):
    parameters, image, mask = extraction
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyRadiomics' means of nothing, its schema checker's way of loading
        try:
            extractor = RadiomicsFeatureExtractor(parameters)
            extractor.addProvenance(provenance_on=False)
            found = extractor.execute(image, mask)
            expected = {f"T1CE_{name}": float(np.real(value)) for name, value in found.items()}
        except (ValueError, RuntimeError, IndexError):
            expected = {"refused": np.nan}
    text = yaml.safe_dump(parameters)
    if not np.isfinite(list(expected.values())).all():
        with pytest.raises(InputError):
            extract_with_parameters(image, mask, read_parameters(text, source="law"), sequence="T1CE")
        return
    ours, _ = extract_with_parameters(image, mask, read_parameters(text, source="law"), sequence="T1CE")
    assert_same(expected, ours)


@QUICK
@given(extractions())
def test_any_settings(extraction):
    check(extraction)


@pytest.mark.slow
@SLOW
@given(extractions())
def test_any_settings_at_length(extraction):
    check(extraction)
