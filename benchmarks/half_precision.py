"""half_precision: what storing the visual map in half precision does to the scores of a trained classifier.

    python -m benchmarks.half_precision [--training 24] [--test 12]

Synthetic cases as the replay's, 2 mm, maps of 64^3 voxels.  The same classifier (the protocol's defaults, one site, every
update in single precision) is trained and judged twice: on maps in single and in half precision; the named peer is the
first.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cohort import VISUAL, WORKERS, load_case, make_case, warm_up
from client.features.radiomics import extract_radiomics
from client.features.visual import as_stored, extract_visual
from client.segment.weights import load_network
from client.store.cohort import TrainingCases
from client.training.score import safety_margins
from client.visual_maps import VisualMaps
from common.config.protocol import Protocol
from common.config.radiomics import RadiomicsSettings
from common.config.segmentation import SegmentationSettings
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.networks.fused_head import initial_weights
from common.stats.moments import finish, summarise_squares_array, summarise_sums_array
from common.tables import TestTable, TrainingTable
from simulation.federated_training import federated_training
from simulation.statistics.estimate import federated_moments, federated_selection

Array = np.ndarray[Any, Any]
PROTOCOL = Protocol.model_validate(
    {"name": "half-precision", "visual": VISUAL, "training": {"encoding": "float32", "broadcast": "float32"}}
)


def measure(folder: Path, number: int) -> tuple[Array, Array]:
    """Radiomics, and the map in single precision."""
    make_case(folder, number)
    case = load_case(folder, number)
    images, network = (case["T1CE"], case["FLAIR"], case["mask"]), load_network(SegmentationSettings(), device="cpu")
    visual = extract_visual(*images, VISUAL, network=network, device="cpu")
    return extract_radiomics(*images, RadiomicsSettings()).values, visual


def scores(table: TrainingTable, test: TestTable, maps: VisualMaps) -> Array:
    """Safety scores of the test cases, whose maps come last, by a classifier trained on the others."""
    cases = len(table)
    own = TrainingCases(table, maps.take(range(cases)), tuple(str(i) for i in range(cases)))
    signature = federated_selection([table], PROTOCOL.selection).chosen.names
    found, sums = federated_moments([table.columns(signature)]), summarise_sums_array(own.visual)
    visual = finish(sums, summarise_squares_array(own.visual, sums.total / sums.count))
    start = ModelState(
        harmoniser=Harmoniser(),
        weights=initial_weights(maps.length, len(signature), PROTOCOL.head, seed=PROTOCOL.seed),
        signature=signature,
        radiomics_mean=found.mean,
        radiomics_deviation=found.deviation,
        visual_mean=visual.mean.astype(np.float32),
        visual_deviation=visual.deviation.astype(np.float32),
    )
    model = federated_training({"all": own}, start, PROTOCOL).model
    unseen = maps.take(range(cases, len(maps)))
    return 1 / (1 + np.exp(-safety_margins(test, unseen, model, head=PROTOCOL.head, device="cpu")))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=int, default=24)
    parser.add_argument("--test", type=int, default=12)
    options = parser.parse_args()
    cases = options.training + options.test
    pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))
    with pool, tempfile.TemporaryDirectory() as name:
        list(pool.map(warm_up, range(WORKERS)))
        rows = list(pool.map(partial(measure, Path(name)), range(cases)))
    values, maps = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    altered, names = np.arange(cases) % 2 == 1, PROTOCOL.radiomics.names()
    table = TrainingTable(names, values[: options.training], altered[: options.training])
    test = TestTable(names, values[options.training :], altered[options.training :])
    half = np.array([as_stored(row, VISUAL) for row in maps])
    single, stored = (scores(table, test, VisualMaps.of(array)) for array in (maps, half))
    largest, spread = float(np.abs(single - stored).max()), float(np.ptp(single))
    print(f"{options.training} training cases, {options.test} test cases, {VISUAL.length:,} visual features")
    print(f"scores of single precision from {single.min():.3f} to {single.max():.3f}")
    print(f"half precision moves a test score by at most {largest:.1e}; {maps.nbytes / half.nbytes:.0f} x less on disk")
    print(json.dumps({"largest_change": largest, "spread": spread, "cases": cases}))


if __name__ == "__main__":
    main()
