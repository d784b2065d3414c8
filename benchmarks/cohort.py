"""cohort: how long the features of 254 cases take in size `small`, on two cores.

    python -m benchmarks.cohort [--cases 12] [--altogether 254]

Synthetic cases as the replay's, at 2 mm in their true brain and tumour; made before the clock starts.  Two processes
extract all 1702 radiomics features and the visual map (64^3 voxels) and write both, as `prepare` does.  With fewer
than `--altogether` cases the last figure is scaled up and says so.  The named peer is PyRadiomics 3.0.1 on the first
two of the same cases, in the same two processes.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from benchmarks.radiomics import Case, Stages, plain
from client.features.radiomics import extract_radiomics
from client.features.visual import as_stored, extract_visual
from client.segment.weights import load_network
from client.store.feature_store import CaseFeatures, FeatureStore
from common.config.radiomics import RadiomicsSettings
from common.config.segmentation import SegmentationSettings
from common.config.visual import VisualSettings
from simulation.segmenter import labelled_volume

WORKERS = 2
SEED = 254
VISUAL = VisualSettings(crop_voxels=64)


def make_case(folder: Path, number: int) -> None:
    """T1CE, FLAIR and mask."""
    made = labelled_volume((SEED, number))
    for name, array in zip(("T1CE", "FLAIR", "mask"), (*made.images, made.mask.astype(np.uint8)), strict=True):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((2.0, 2.0, 2.0))
        sitk.WriteImage(image, str(folder / f"{number}-{name}.nrrd"))


def load_case(folder: Path, number: int) -> Case:
    """From `make_case`."""
    return {name: sitk.ReadImage(str(folder / f"{number}-{name}.nrrd")) for name in ("T1CE", "FLAIR", "mask")}


def warm_up(_: int) -> None:
    """What every worker does once: libraries, network."""
    _on_one_core()
    load_network(SegmentationSettings(), device="cpu")
    import radiomics.featureextractor  # noqa: F401  # not part of the peer's time


def features(folder: Path, number: int) -> dict[str, float]:
    """Seconds by stage."""
    _on_one_core()
    case, stages = load_case(folder, number), Stages()
    images = case["T1CE"], case["FLAIR"], case["mask"]
    with stages.lap("radiomics"):
        found = extract_radiomics(*images, RadiomicsSettings())
    with stages.lap("visual"):
        network = load_network(SegmentationSettings(), device="cpu")
        visual = extract_visual(*images, VISUAL, network=network, device="cpu")
    with stages.lap("write"):
        whole = CaseFeatures(found.values, as_stored(visual, VISUAL), "", found.warnings, {})
        FeatureStore(folder).save(str(number), whole)
    return dict(stages)


def peer(folder: Path, number: int) -> None:
    """PyRadiomics, both sequences, original and wavelet."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    _on_one_core()
    plain(load_case(folder, number))


def _on_one_core() -> None:
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--altogether", type=int, default=254)
    options = parser.parse_args()
    pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))
    with pool, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        list(pool.map(partial(make_case, folder), range(options.cases)))
        list(pool.map(warm_up, range(WORKERS)))
        begun = time.perf_counter()
        stages = list(pool.map(partial(features, folder), range(options.cases)))
        ours = (time.perf_counter() - begun) / options.cases
        begun = time.perf_counter()
        list(pool.map(partial(peer, folder), range(WORKERS)))
        theirs = (time.perf_counter() - begun) / WORKERS
    _report(stages, ours, theirs, options.altogether)


def _report(stages: list[dict[str, float]], ours: float, theirs: float, altogether: int) -> None:
    summary: dict[str, Any] = {"cases": len(stages), "altogether": altogether}
    for stage in stages[0]:
        summary[f"{stage}_s"] = float(np.mean([each[stage] for each in stages]))
        print(f"{stage:<10} {summary[f'{stage}_s']:6.3f} s a case on one core")
    scaled = "" if len(stages) == altogether else f", scaled up from {len(stages)}"
    summary |= {"ours_s": ours * altogether, "plain_s": theirs * altogether, "ratio": theirs / ours}
    print(f"{altogether} cases, {WORKERS} processes: {summary['ours_s']:6.1f} s{scaled}")
    print(f"plain PyRadiomics, radiomics alone: {summary['plain_s']:6.1f} s, scaled up from 2   {theirs / ours:4.1f} x")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
