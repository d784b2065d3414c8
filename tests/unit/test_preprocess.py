"""Steps of the preprocessing that no whole pipeline is needed for: skull strip by an installed program, normalisation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from client.case import Case
from client.preprocess.atlas import load_atlas
from client.preprocess.normalise import brain_landmarks, normalise
from client.preprocess.steps.strip_command import PROGRAMS, strip_by_command
from client.site import open_site
from client.tasks.check_site import check_site
from client.tasks.landmarks import sum_landmarks
from client.tasks.prepare_cohort import prepare_cohort
from client.tasks.require_preprocessing import require_preprocessing
from common.config.parse import parse_settings
from common.config.preprocessing import LANDMARK_PERCENTILES, PreprocessingSettings
from common.config.protocol import Protocol
from common.errors import ConfigError, InputError
from tests.review_site import write_review_site

SCALE = tuple(float(p) for p in np.linspace(0, 100, len(LANDMARK_PERCENTILES)))


def _case(seed: int = 0) -> Case:
    """A ball of three tissues in noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((24, 30, 28)) - np.array([12, 15, 14]).reshape(3, 1, 1, 1)
    radius = np.sqrt(z**2 + y**2 + x**2)
    brain = radius < 11
    tissue = np.select([radius < 5, radius < 8], [200.0, 500.0], 400.0) + rng.normal(0, 15, radius.shape)
    images = [_image(np.where(brain, tissue * gain, 5).astype(np.float32)) for gain in (1, 3)]
    return Case("p", *images, brain_mask=_image(brain.astype(np.uint8)))


def _image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetOrigin((-14.0, -15.0, -12.0))
    return image


def _install(folder: Path, name: str, script: str, monkeypatch) -> None:
    """A program of that name, in front of all others."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize("kind", PROGRAMS)
def test_the_installed_program_finds_the_brain(tmp_path, monkeypatch, kind):
    """Called as its manual says, in a folder of its own that is gone afterwards."""
    case = _case()
    sitk.WriteImage(case.brain_mask, str(tmp_path / "answer.nii.gz"))
    mask = {"hd_bet": "${4%.nii.gz}_bet.nii.gz", "synthstrip": "$4"}[kind]
    script = f'echo "$@" > {tmp_path}/asked; [ -f "$2" ] || exit 3; cp {tmp_path}/answer.nii.gz {mask}'
    _install(tmp_path / "bin", PROGRAMS[kind][0], script, monkeypatch)

    found = strip_by_command(case, kind, tmp_path / "scratch")

    assert np.array_equal(sitk.GetArrayFromImage(case.brain_mask), sitk.GetArrayFromImage(found.brain_mask))
    assert " ".join(PROGRAMS[kind][1:]) == (tmp_path / "asked").read_text().strip()
    assert [] == list((tmp_path / "scratch").iterdir())
    assert "found the brain" in found.history[-1].prose


@pytest.mark.parametrize(
    "script",
    ["echo CUDA DOE^JOHN >&2; exit 1", "true", "echo nonsense > out_bet.nii.gz", "cp ../small.nii.gz out_bet.nii.gz"],
    ids=["fails", "writes nothing", "writes no image", "another grid"],
)
def test_a_program_that_fails_sets_the_case_aside(tmp_path, monkeypatch, script):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    sitk.WriteImage(_image(np.ones((3, 3, 3), np.uint8)), str(scratch / "small.nii.gz"))
    _install(tmp_path / "bin", "hd-bet", script, monkeypatch)

    with pytest.raises(InputError, match="skull-strip-failed") as caught:
        strip_by_command(_case(), "hd_bet", scratch)

    assert "DOE" not in str(caught.value)
    assert ["small.nii.gz"] == [path.name for path in scratch.iterdir()]


@pytest.mark.parametrize("kind", PROGRAMS)
def test_an_absent_program_is_refused_by_name(monkeypatch, tmp_path, kind):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="skull-strip-absent") as caught:
        strip_by_command(_case(), kind)

    assert PROGRAMS[kind][0] in str(caught.value)


def test_every_normalisation_forgets_the_gain_and_leaves_nothing_outside():
    outside = sitk.GetArrayFromImage(_case().brain_mask) == 0
    for settings in (
        PreprocessingSettings(normalisation="zscore"),
        PreprocessingSettings(normalisation="whitestripe"),
        PreprocessingSettings(normalisation="nyul", standard_scale={"t1ce": SCALE, "flair": SCALE}),
    ):
        done = normalise(_case(), settings)
        t1ce, flair = (sitk.GetArrayFromImage(image) for image in (done.t1ce, done.flair))
        assert settings.normalisation == done.history[-1].name
        assert not t1ce[outside].any()
        if settings.normalisation != "whitestripe":  # its peak is another one in FLAIR
            assert t1ce == pytest.approx(flair, abs=1e-3)


def test_a_brain_without_contrast_is_named():
    case = _case()
    flat = Case("p", case.t1ce * 0 + 7, case.flair, brain_mask=case.brain_mask)

    for method in ("zscore", "whitestripe"):
        with pytest.raises(InputError, match="brain-without-contrast"):
            normalise(flat, PreprocessingSettings(normalisation=method))
    with pytest.raises(InputError, match="brain-without-contrast"):
        brain_landmarks(flat, "T1CE")


@pytest.mark.parametrize(
    "text",
    [
        "normalisation: nyul",
        f"standard_scale: {{t1ce: {list(SCALE)}, flair: {list(SCALE)}}}",
        f"normalisation: nyul\nstandard_scale: {{t1ce: {list(SCALE)}, flair: {list(SCALE[::-1])}}}",
        f"normalisation: nyul\nstandard_scale: {{t1ce: {list(SCALE)}, flair: {list(SCALE[1:])}}}",
    ],
    ids=["no scale", "scale not used", "falling", "too short"],
)
def test_a_scale_that_does_not_fit_is_refused(text):
    with pytest.raises(ConfigError, match="config-invalid"):
        parse_settings(PreprocessingSettings, text, source="p")


def test_the_scale_changes_the_features_but_not_the_landmarks():
    plain = Protocol(name="p")
    preprocessing = {"normalisation": "nyul", "standard_scale": {"t1ce": SCALE, "flair": SCALE}}
    nyul = Protocol.model_validate({"name": "p", "preprocessing": preprocessing})

    assert plain.landmarks_fingerprint() == nyul.landmarks_fingerprint()
    assert plain.preparation_fingerprint() != nyul.preparation_fingerprint()


def test_an_atlas_from_a_path_is_the_same_atlas(tmp_path):
    shipped = load_atlas("mni152")
    sitk.WriteImage(shipped.brain, str(tmp_path / "atlas.nii.gz"))

    own = load_atlas(str(tmp_path / "atlas.nii.gz"))

    assert np.array_equal(sitk.GetArrayFromImage(shipped.mask), sitk.GetArrayFromImage(own.mask))
    with pytest.raises(ConfigError, match="atlas-unreadable"):
        load_atlas(str(tmp_path / "nowhere.nii.gz"))


def test_an_atlas_of_ones_own_is_the_studys_or_refused(tmp_path):
    """Said once before the first case, as an absent program is."""
    path = tmp_path / "atlas.nii.gz"
    sitk.WriteImage(load_atlas("mni152").brain, str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    require_preprocessing(PreprocessingSettings(atlas=str(path), atlas_sha256=digest))
    with pytest.raises(ConfigError, match="atlas-differs"):
        require_preprocessing(PreprocessingSettings(atlas=str(path), atlas_sha256="0" * 64))
    with pytest.raises(ConfigError, match="atlas-unreadable"):
        require_preprocessing(PreprocessingSettings(atlas=str(tmp_path / "none.nii.gz"), atlas_sha256=digest))
    with pytest.raises(ConfigError, match="config-invalid"):
        parse_settings(PreprocessingSettings, f"atlas: {path}", source="p")


def test_check_and_prepare_refuse_at_once_where_the_program_is_absent(tmp_path, monkeypatch):
    site = write_review_site(tmp_path, 1)
    protocol = site.with_name("protocol.yaml")
    settings = yaml.safe_load(protocol.read_text())
    settings["preprocessing"]["skull_strip"] = "hd_bet"
    protocol.write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("PATH", str(tmp_path))

    for run in (check_site, prepare_cohort, sum_landmarks):
        with pytest.raises(ConfigError, match="skull-strip-absent"):
            run(open_site(site))
