"""The U-Net's encoder learns with the head, end to end, over a federation: tiny volumes, everything else real."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from client.case import Case
from client.features.visual import extract_visual
from client.ingest.manifest import read_manifest
from client.segment.weights import load_network
from client.site import open_site
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.fingerprints import FingerprintBook
from client.store.prepared_store import PreparedStore
from client.tasks.case_keys import case_keys
from client.tasks.evaluate import scores_file
from client.tasks.learning_encoder import backbone_of
from client.tasks.load_cohort import load_cohort
from client.tasks.score_cases import score_cases
from client.training.fused import train_plain
from client.training.local_task import LocalTask
from client.training.train import train_locally
from client.visual_maps import VisualMaps
from common.config.segmentation import UNetSettings
from common.config.training import TrainingSettings
from common.errors import Refused
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.networks.first_weights import ENCODER, encoder_shapes, first_weights
from server.reporting.model_files import write_model
from simulation.engines import run_local
from tests.builders import small_protocol, write_federation, write_site

SIZES = {"aachen": 12, "bern": 16}
SMALL = 1e-5
LEARNING = {"rounds": 2, "local_epochs": 1, "encoder_rate": 0.5}


def give_images(site_file):
    """Noise of 20 voxels with a tumour whose texture tells the class; the store's maps are the network's."""
    site = open_site(site_file)
    protocol = site.protocol
    network = load_network(protocol.segmentation, device="cpu")
    book, store = FingerprintBook(site.settings.cache), FeatureStore(site.settings.cache)
    rng = np.random.default_rng(len(site.settings.name))
    for row in read_manifest(site.settings.manifest, site=site.settings.name):
        keys = case_keys(site, book.find(row), None)
        mask = np.zeros((20, 20, 20), np.uint8)
        mask[6:14, 6:14, 6:14] = 1
        waves = np.sin(np.arange(20) * (2.0 if row.altered else 0.7))
        images = [rng.standard_normal(mask.shape) * 0.5 + mask * waves for _ in range(2)]
        t1ce, flair = (sitk.GetImageFromArray(i.astype(np.float32)) for i in images)
        tumour = sitk.GetImageFromArray(mask)
        case = Case(row.pseudonym, t1ce, flair, tumour_mask=tumour)
        PreparedStore(site.settings.cache).save(keys.preparation, case)
        visual = extract_visual(t1ce, flair, tumour, protocol.visual, network=network, device="cpu")
        store.save(keys.features, CaseFeatures(store.radiomics(keys.features), visual, "made for a test", (), {}, None))
    return site_file


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    found = write_federation(tmp_path_factory.mktemp("images"), small_protocol(training=LEARNING), SIZES)
    for site in found.sites.values():
        give_images(site)
    return found


@pytest.fixture(scope="module")
def trained(federation):
    return run_local(federation.study, list(federation.sites.values()))


def local_task(site_file, training, **more):
    """One round at one site from the study's first weights."""
    site = open_site(site_file)
    cases = load_cohort(site).training
    protocol = site.protocol.model_copy(update={"training": training})
    signature = cases.table.names[:3]
    model = ModelState(
        harmoniser=Harmoniser(),
        weights=first_weights(protocol, 3),
        signature=signature,
        radiomics_mean=cases.table.columns(signature).values.mean(axis=0),
        radiomics_deviation=cases.table.columns(signature).values.std(axis=0),
        visual_mean=cases.visual.to_array().mean(axis=0),
        visual_deviation=cases.visual.to_array().std(axis=0) + np.float32(1e-3),
    )
    return LocalTask(
        cases.table,
        cases.visual,
        model,
        protocol.head,
        training,
        1,
        "aachen",
        1,
        backbone=backbone_of(cases, site),
        **more,
    )


def test_at_first_the_features_are_the_frozen_networks(federation):
    """Offsets of zero: what the store holds, to rounding."""
    task = local_task(federation.sites["aachen"], TrainingSettings(encoder_rate=1.0))

    for found, stored in zip(task.backbone.maps(task.model.weights), task.visual, strict=True):
        np.testing.assert_allclose(found, stored, atol=1e-5)


def test_the_gradient_that_reaches_the_encoder_is_the_losss(federation):
    """One full-batch step of rate r moves a weight by -r dL/dw; the loss itself, in double precision, says the same."""
    training = TrainingSettings(strategy="fedsgd", encoder_rate=1.0, learning_rate=1e-3, weight_decay=0.0)
    task = local_task(federation.sites["aachen"], training)
    step = train_plain(task, precision=torch.float64)
    rng = np.random.default_rng(0)

    for name in rng.permutation(sorted(f"{ENCODER}{n}" for n in encoder_shapes(UNetSettings()) if "bias" not in n))[:2]:
        place = np.unravel_index(np.abs(step.changes[name]).argmax(), step.changes[name].shape)
        losses = []
        for sign in (1, -1):
            offsets = task.backbone.offsets(task.model.weights, torch.float64)
            with torch.no_grad():
                offsets[name][place] += sign * SMALL
                raw = task.backbone.features(offsets, torch.arange(len(task.table)))
            # What a round reports first is the loss of the incoming model on these features.
            idle = replace(task, visual=VisualMaps.of(raw.numpy()))
            losses.append(train_plain(idle, precision=torch.float64).loss)
        expected = -1e-3 * (losses[0] - losses[1]) / (2 * SMALL)
        assert step.changes[name][place] == pytest.approx(expected, rel=1e-3, abs=1e-12)


def test_a_frozen_encoder_learns_nothing_and_a_free_one_fits_better(federation, trained):
    """Five steps more on the same cases: lower loss with the encoder than without."""
    free = TrainingSettings(optimiser="sgd", learning_rate=0.3, encoder_rate=1.0, local_epochs=4, batch_size=0)
    task = local_task(federation.sites["bern"], free)
    after = {}
    for name, settings in (("free", free), ("frozen", free.model_copy(update={"encoder_rate": 1e-12}))):
        changes = train_plain(replace(task, training=settings)).changes
        weights = {n: w + changes[n] for n, w in task.model.weights.items()}
        visual = task.backbone.maps(weights)
        model = task.model.model_copy(update={"weights": weights})
        after[name] = train_plain(replace(task, model=model, visual=visual)).loss

    assert after["free"] < after["frozen"]
    moved = [name for name, w in trained.weights.items() if name.startswith(ENCODER) and np.abs(w).max() > 0]
    assert set(moved) == {f"{ENCODER}{name}" for name in encoder_shapes(UNetSettings())}


@pytest.mark.slow
def test_the_exact_mode_equals_one_hospital_with_all_images(tmp_path, federation):
    """FedSGD through the encoder: two sites' steps add up to the pooled one, weight by weight."""
    protocol = small_protocol(
        training={"rounds": 2, "strategy": "fedsgd", "learning_rate": 0.3, "encoder_rate": 0.5},
        federation={"min_sites": 1, "min_cases": 4, "timeout_s": 60},
    )
    parted = write_federation(tmp_path / "parted", protocol, SIZES)
    whole = write_federation(tmp_path / "whole", protocol, {"all": 4})
    for site in parted.sites.values():
        give_images(site)
    home = whole.sites["all"].parent
    lines = [(p.parent / "manifest.csv").read_text().splitlines() for p in parted.sites.values()]
    # The same files under the same paths: one manifest that names them all, one cache that holds them all.
    rows = [lines[0][0], *(row for part in lines for row in part[1:])]
    absolute = [
        row for part, path in zip(lines, parted.sites.values(), strict=True) for row in _absolute(part[1:], path)
    ]
    (home / "manifest.csv").write_text("\n".join([rows[0], *absolute]) + "\n")
    shutil.rmtree(home / "cache")
    _merge_caches([p.parent / "cache" for p in parted.sites.values()], home / "cache")

    apart = run_local(parted.study, list(parted.sites.values()))
    together = run_local(whole.study, [whole.sites["all"]])

    for name, weight in together.weights.items():
        np.testing.assert_allclose(apart.weights[name], weight, atol=2e-5)
    assert apart.selection.signature == together.selection.signature


def _absolute(rows, site_file):
    """Image paths from the manifest's folder to the root."""
    home = site_file.parent
    return [",".join([c[0], str(home / c[1]), str(home / c[2]), *c[3:]]) for c in (row.split(",") for row in rows)]


def _merge_caches(caches, target):
    known = {}
    for cache in caches:
        shutil.copytree(cache / "features", target / "features", dirs_exist_ok=True)
        shutil.copytree(cache / "prepared", target / "prepared", dirs_exist_ok=True)
        known |= json.loads((cache / "fingerprints.json").read_text())
    (target / "fingerprints.json").write_text(json.dumps(known))


def test_a_released_encoder_scores_as_the_study_did(federation, trained, tmp_path):
    write_model(tmp_path / "model", trained)
    site = open_site(federation.sites["bern"])

    scored = {row["pseudonym"]: row["safety_margin"] for row in score_cases(site, tmp_path / "model").rows}

    lines = scores_file(site, "trial").read_text().splitlines()[1:]
    assert lines
    for line in lines:
        name, _, _, margin = line.split(",")
        assert scored[name] == pytest.approx(float(margin), abs=1e-4)


def test_sites_in_threads_of_one_process_do_not_disturb_each_other(federation, trained, tmp_path):
    """The network is loaded once and its weights are swapped while it runs: the same study again, to the last bit."""
    study = tmp_path / "again" / "study.yaml"
    shutil.copytree(federation.study.parent, study.parent, ignore=shutil.ignore_patterns("checkpoint.npz"))

    again = run_local(study, list(federation.sites.values()))

    for name, weight in trained.weights.items():
        np.testing.assert_array_equal(again.weights[name], weight)


@pytest.mark.slow
def test_validation_cases_and_robust_merging_work_with_an_encoder(federation, tmp_path):
    """Options meet: held-out cases, AdamW, class weights, a median; the loss is finite and the study completes."""
    training = {**LEARNING, "optimiser": "adamw", "learning_rate": 1e-3, "strategy": "geometric_median",
                "validation_fraction": 0.25, "weighting": "inverse_variance", "class_weights": True}  # fmt: skip
    again = write_federation(tmp_path, small_protocol(training=training), SIZES)
    for site in again.sites.values():
        give_images(site)

    state = run_local(again.study, list(again.sites.values()))

    assert state.status() == "completed"
    assert all(np.isfinite(w).all() for w in state.weights.values())


def test_sites_without_images_are_named(tmp_path):
    """Features from a table: nothing to learn through; a coded refusal, and no other path is taken silently."""
    protocol = small_protocol(training=LEARNING)
    site = open_site(write_site(tmp_path, "aachen", protocol, 12, seed=1))
    cases = load_cohort(site).training

    with pytest.raises(Refused, match="images-missing"):
        backbone_of(cases, site)
    give_images(tmp_path / "aachen" / "site.yaml")
    task = local_task(tmp_path / "aachen" / "site.yaml", protocol.training)
    with pytest.raises(Refused, match="images-missing"):
        train_locally(replace(task, backbone=None))
