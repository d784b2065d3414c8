"""segmenter: train the shipped segmentation weights on synthetic heads that no replay ever uses.

The shipped files are client/segment/weights/synthetic-v1 and, for two-dimensional visual features, synthetic-2d-v1;
`fedmidline-sim segmenter` makes them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from client.training.segmenter import LabelledVolume, train_segmenter, whole_tumour_dice, write_weights
from common.networks.unet import Dimensions
from common.seeds import stream
from simulation.cohort.anatomy import sculpt_head
from simulation.cohort.render import render_scene
from simulation.cohort.scanner import SCANNERS, acquire
from simulation.cohort.tumour import draw_location, grow_tumour

__all__ = ["labelled_volume", "train_synthetic_segmenter"]

NAMES: dict[Dimensions, str] = {3: "synthetic-v1", 2: "synthetic-2d-v1"}
TRAINING_SEED = 90001
"""Replays use small seeds; this stream is the network's own."""


def train_synthetic_segmenter(
    folder: Path,
    *,
    dimensions: Dimensions = 3,
    cases: int = 48,
    held_out: int = 8,
    steps: int = 500,
    seed: int = TRAINING_SEED,
    workers: int = 2,
    device: str = "cpu",
    progress: Callable[[int, float], None] = lambda _step, _loss: None,
) -> tuple[Path, float]:
    """Make heads, train, measure Dice on held-out heads, write weights and card; returns path and Dice."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        volumes = list(pool.map(labelled_volume, [(seed, i) for i in range(cases + held_out)]))
    network = train_segmenter(
        volumes[:cases], steps=steps, seed=seed, dimensions=dimensions, device=device, progress=progress
    )
    unseen = volumes[cases:]
    dice = float(np.mean([whole_tumour_dice(network, c, dimensions=dimensions, device=device) for c in unseen]))
    card = {
        "what": f"2-channel {dimensions}-D U-Net for the whole tumour, trained on synthetic heads only; research use only",
        "cases": cases,
        "steps": steps,
        "seed": seed,
        "voxel_mm": 2.0,
        "held_out_cases": held_out,
        "held_out_mean_dice": round(dice, 4),
    }
    return write_weights(network, folder, NAMES[dimensions], card), dice


def labelled_volume(place: tuple[int, int]) -> LabelledVolume:
    """One head with both sequences on T1CE's grid, z-scored in the true brain, zero outside."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    seed, number = place
    rng = stream(seed, "head", number)
    altered = bool(number % 2)
    head = sculpt_head(rng, 2.0)
    tumour = grow_tumour(head, draw_location(altered, 0.0, rng), altered=altered, effect=0.6, rng=rng)
    scanner = SCANNERS[str(rng.choice(list(SCANNERS)))]
    still = sitk.Transform(3, sitk.sitkIdentity)
    scored = []
    for name, scene in zip(("t1ce", "flair"), render_scene(head, tumour, rng), strict=True):
        native = acquire(scene, head.grid, scanner, scanner.spacing_mm(name, "small"), still, rng)
        common = sitk.Resample(sitk.Cast(native, sitk.sitkFloat32), head.grid, still, sitk.sitkLinear, 0.0)
        array = sitk.GetArrayFromImage(common)
        brain = head.depth_mm <= 0
        scored.append(np.where(brain, (array - array[brain].mean()) / array[brain].std(), 0))
    return LabelledVolume(np.stack(scored).astype(np.float32), tumour.whole > 0)
