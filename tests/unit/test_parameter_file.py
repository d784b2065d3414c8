"""A PyRadiomics parameter file gives PyRadiomics' values, or a refusal that names what is not computed."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from radiomics.featureextractor import RadiomicsFeatureExtractor

from client.cli import app
from client.features.parameter_file import extract_with_parameters, read_parameters
from common.catalogue import PAPER_SIGNATURE, radiomics_names
from common.command import run_command
from common.errors import ConfigError, InputError
from tests.plain_pyradiomics import assert_same, plain_features

MR_EXAMPLE = """
imageType:
  Original: {}
  LoG: {sigma: [2.0, 3.0]}
  Wavelet: {binWidth: 12, wavelet: db2, level: 2}
featureClass:
  shape:
  firstorder: []
  glcm: [Autocorrelation, JointAverage, Contrast, Imc1, MCC]
  glrlm:
setting:
  normalize: true
  normalizeScale: 100
  resampledPixelSpacing: [2, 2, 2]
  interpolator: sitkBSpline
  binWidth: 5
  label: 2
  voxelArrayShift: 300
  resegmentRange: [-3, 3]
  resegmentMode: sigma
  preCrop: true
  weightingNorm: euclidean
"""
FILTERS = (
    "imageType: {Square: {}, SquareRoot: {}, Logarithm: {}, Exponential: {}, Gradient: {gradientUseSpacing: false}}"
)
TEXTURES = """
imageType: {Original: {}}
featureClass: {firstorder: [], glcm: [], gldm: [], glrlm: [], glszm: [], ngtdm: []}
setting: {binCount: 12, distances: [1, 3], symmetricalGLCM: false, gldm_a: 1, force2D: true, force2Ddimension: 1}
"""
BY_NAME = """
featureClass: {shape: [Compactness1, Compactness2, SphericalDisproportion], firstorder: [StandardDeviation]}
"""


def _case():
    """Smooth, 1 x 1.2 x 3 mm, two labels."""
    rng = np.random.default_rng(3)
    image = sitk.SmoothingRecursiveGaussian(
        sitk.GetImageFromArray(rng.normal(size=(14, 32, 30)).astype(np.float32)), 1.0
    )
    mask = np.zeros((14, 32, 30), np.uint8)
    mask[2:6, 4:12, 3:9] = 1
    mask[4:12, 8:26, 10:27] = 2
    mask = sitk.GetImageFromArray(mask)
    for grid in (image, mask):
        grid.SetSpacing((1, 1.2, 3))
    return image, mask


def _plain(text, image, mask):
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    extractor = RadiomicsFeatureExtractor(yaml.safe_load(text))
    extractor.addProvenance(provenance_on=False)
    return {f"T1CE_{name}": float(value) for name, value in extractor.execute(image, mask).items()}


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # pykwalify's
@pytest.mark.parametrize("text", [MR_EXAMPLE, FILTERS, TEXTURES, BY_NAME], ids=["mr", "filters", "textures", "by name"])
def test_values_are_pyradiomics_own(text):
    image, mask = _case()

    found, warnings = extract_with_parameters(image, mask, read_parameters(text, source="test"), sequence="T1CE")

    assert_same(_plain(text, image, mask), found)
    assert any("it also holds" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("imageType: {LBP2D: {}}", "imageType.LBP2D"),
        ("imageType: {LBP3D: {}}", "imageType.LBP3D"),
        ("featureClass: {glcm: [Homogeneity1]}", "featureClass.glcm.Homogeneity1"),
        ("featureClass: {gldm: [DependencePercentage]}", "featureClass.gldm.DependencePercentage"),
        ("voxelSetting: {kernelRadius: 2}", "voxelSetting"),
    ],
)
def test_what_is_not_computed_is_named(text, named):
    with pytest.raises(ConfigError, match=f"parameters-not-supported.*{named}"):
        read_parameters(text, source="test")


@pytest.mark.parametrize(
    "text", ["setting: {binWidht: 3}", "setting: {binWidth: -1}", "- 1", "a: [", "imageType: {Wave: {}}"]
)
def test_what_pyradiomics_refuses_is_refused(text):
    with pytest.raises(ConfigError, match="parameters-invalid"):
        read_parameters(text, source="test")


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # pykwalify's
def test_shape_of_one_slice():
    """PyRadiomics' own; a thicker mask is refused, which PyRadiomics only sometimes does."""
    image, mask = _case()
    text = "featureClass: {shape2D: [], firstorder: [Mean]}\nsetting: {force2D: true, label: 2}"
    slices = sitk.GetArrayFromImage(mask)
    slices[:6], slices[7:] = 0, 0
    thin = sitk.GetImageFromArray(slices)
    thin.CopyInformation(mask)

    found, _ = extract_with_parameters(image, thin, read_parameters(text, source="test"), sequence="T1CE")

    assert_same(_plain(text, image, thin), found)
    assert 10 == len(found)
    with pytest.raises(InputError, match="shape2d-does-not-fit"):
        extract_with_parameters(image, mask, read_parameters(text, source="test"), sequence="T1CE")


def test_two_dimensional_shape_is_not_left_out_in_silence():
    image, mask = _case()

    parameters = read_parameters("setting: {force2D: true, label: 2}", source="test")
    _, warnings = extract_with_parameters(image, mask, parameters, sequence="T1CE")

    assert "class shape2D is not computed" in warnings


def test_a_filter_that_cannot_be_applied_is_named():
    """PyRadiomics leaves it out and goes on."""
    image, mask = _case()

    with pytest.raises(InputError, match=r"filter-does-not-fit.*log-sigma-90-0-mm-3D"):
        extract_with_parameters(
            image, mask, read_parameters("imageType: {LoG: {sigma: [90.0]}}", source="test"), sequence="T1CE"
        )


def test_a_missing_label_is_told():
    image, mask = _case()

    with pytest.raises(InputError, match="pyradiomics-refuses"):
        extract_with_parameters(image, mask, read_parameters("setting: {label: 7}", source="test"), sequence="T1CE")


@pytest.fixture
def files(tmp_path):
    image, mask = _case()
    paths = {name: tmp_path / f"{name}.nii.gz" for name in ("t1ce", "flair", "mask")}
    sitk.WriteImage(image, str(paths["t1ce"]))
    sitk.WriteImage(image * 2 + 1, str(paths["flair"]))
    sitk.WriteImage(mask == 2, str(paths["mask"]))
    return paths


def _run(monkeypatch, capsys, *words: object):
    monkeypatch.setattr("sys.argv", ["fedmidline-site", "features", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_command_with_a_preset(files, monkeypatch, capsys):
    """Every T1CE name of the catalogue, PyRadiomics' values, images as they are."""
    words = ["--t1ce", files["t1ce"], "--mask", files["mask"], "--preset", "ibsi_like_32", "--json"]
    code, out, _ = _run(monkeypatch, capsys, *words)

    assert 0 == code
    found = json.loads(out)
    image, mask = (sitk.ReadImage(str(files[name])) for name in ("t1ce", "mask"))
    assert list(radiomics_names(("T1CE",))) == list(found)
    assert_same({f"T1CE_{k}": v for k, v in plain_features(image, mask, "ibsi_like_32").items()}, found)


def test_command_sees_nan_in_nifti(files, monkeypatch, capsys):
    """ITK reads it as 0 without a word."""
    image = sitk.ReadImage(str(files["t1ce"]))
    image[15, 15, 8] = float("nan")
    sitk.WriteImage(image, str(files["t1ce"]))

    words = ["--t1ce", files["t1ce"], "--mask", files["mask"], "--preset", "ibsi_like_32"]
    code, _, err = _run(monkeypatch, capsys, *words)

    assert 2 == code
    assert "image-not-finite" in err


def test_command_with_a_signature(files, monkeypatch, capsys, tmp_path):
    """The paper's nineteen, by preset and by the file that says the same."""
    (tmp_path / "params.yaml").write_text("imageType: {Wavelet: {}}\nsetting: {binCount: 32}\n")
    common = ["--t1ce", files["t1ce"], "--flair", files["flair"], "--mask", files["mask"], "--signature", "--json"]

    _, by_preset, _ = _run(monkeypatch, capsys, *common, "--preset", "ibsi_like_32")
    _, by_file, _ = _run(monkeypatch, capsys, *common, "--settings", tmp_path / "params.yaml")

    assert set(PAPER_SIGNATURE) == set(json.loads(by_preset))
    assert json.loads(by_preset) == json.loads(by_file)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], "settings-missing"),
        (["--preset", "unheard"], "preset-unknown"),
        (["--settings", "absent.yaml"], "file-unreadable"),
        (["--preset", "ibsi_like_32", "--label", "none"], "label-not-a-number"),
        (["--preset", "ibsi_like_32", "--label", "5"], "roi-empty"),
        (["--preset", "ibsi_like_32", "--flair", "absent.nii"], "file-unreadable"),
    ],
)
def test_command_refusals(words, code, files, monkeypatch, capsys):
    exit_code, out, err = _run(monkeypatch, capsys, "--t1ce", files["t1ce"], "--mask", files["mask"], *words, "--json")

    assert (2, "") == (exit_code, out)
    assert code in err
