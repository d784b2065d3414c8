"""Repeated measurements: no change changes nothing, every kind of change does what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from client.cli import app
from client.features.perturb import Perturbation, draw_perturbations, measure_repeats, perturb
from client.features.radiomics import extract_radiomics
from common.command import run_command
from common.config.radiomics import RadiomicsSettings
from tests.builders import small_protocol, write_site


def _case():
    rng = np.random.default_rng(1)
    images = [
        sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.normal(size=(50, 48, 52)).astype(np.float32)), 1.5)
        for _ in range(2)
    ]
    ball = sum(((axis - 24) / r) ** 2 for axis, r in zip(np.ogrid[:50, :48, :52], (8, 9, 10), strict=True)) < 1
    return tuple(images), sitk.GetImageFromArray(ball.astype(np.uint8))


def test_no_change_changes_nothing():
    images, mask = _case()

    (t1ce, flair), same = perturb(images, mask, Perturbation(), np.random.default_rng(0))

    expected = extract_radiomics(*images, mask, RadiomicsSettings())
    found = extract_radiomics(t1ce, flair, same, RadiomicsSettings())
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("growth", [-0.15, 0.1])
def test_growth_is_of_the_volume(growth):
    images, mask = _case()

    _, changed = perturb(images, mask, Perturbation(growth=growth), np.random.default_rng(0))

    before, after = (float(sitk.GetArrayViewFromImage(m).sum()) for m in (mask, changed))
    assert after / before == pytest.approx(1 + growth, abs=0.03)  # voxels at equal distance come together


def test_a_shift_by_a_whole_voxel_moves_the_image():
    images, mask = _case()

    (moved, _), _ = perturb(images, mask, Perturbation(shift=(1, 0, 0)), np.random.default_rng(0))
    (still, _), _ = perturb(images, mask, Perturbation(), np.random.default_rng(0))

    np.testing.assert_allclose(
        sitk.GetArrayFromImage(moved)[..., :-1], sitk.GetArrayFromImage(still)[..., 1:], atol=1e-5
    )


def test_noise_has_the_strength_of_the_image_s_own():
    rng = np.random.default_rng(2)
    white = sitk.GetImageFromArray((rng.normal(size=(50, 48, 52)) * 3).astype(np.float32))
    _, mask = _case()

    ((noisy,), _), ((still,), _) = (
        perturb((white,), mask, Perturbation(noise=strength), np.random.default_rng(0)) for strength in (1.0, 0.0)
    )

    added = sitk.GetArrayFromImage(noisy) - sitk.GetArrayFromImage(still)
    assert added.std() == pytest.approx(3, rel=0.1)


def test_repeats_are_reproducible_and_differ():
    images, mask = _case()
    settings = RadiomicsSettings(perturbations=2)

    once, again = (measure_repeats(*images, mask, settings, np.random.default_rng(5)) for _ in range(2))

    np.testing.assert_array_equal(once, again)
    assert (2, 1702) == once.shape
    assert not np.array_equal(once[0], once[1])
    assert draw_perturbations(3, np.random.default_rng(0))[2].noise == 1.0


def test_card(tmp_path, monkeypatch, capsys):
    """Stability and redundancy of a site's prepared cases, as JSON and Markdown."""
    site = write_site(tmp_path, "north", small_protocol(radiomics={"perturbations": 4}), 16, seed=0)
    monkeypatch.setattr("sys.argv", ["fedmidline-site", "feature-card", "--site", str(site), "--json"])

    with pytest.raises(SystemExit, match="0"):
        run_command(app)

    found = json.loads(capsys.readouterr().out)
    assert (4, 12) == (found["stability"]["measurements of each"], found["stability"]["cases"])
    assert found["stability"]["median ICC(1,1)"] > 0.9
    assert 12 == found["redundancy"]["cases"]
    assert "3.0.1" == found["versions"]["pyradiomics"]
    text = (site.parent / "cache" / "feature_card.md").read_text()
    assert "## Where they differ from IBSI" in text
    assert "## Stability" in text
