"""visual_scores: what the choice of visual features, and their storing in half precision, do to a classifier's scores.

    python -m benchmarks.visual_scores [--training 60] [--test 40]

Synthetic heads as the segmentation network learns from (classes nearer than the replay's: the best possible AUC is
0.80), 2 mm, a cube or a slice of 64 voxels per edge.  For every variant the same classifier
(the protocol's defaults, one site, every update in single precision) is trained and judged with the signature and
without it, on features in single and in half precision.  The named peer is the paper's whole map in single precision.
A test AUC of so few cases is uncertain by more than a tenth: it ranks no variant.  The last line is JSON.
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
from client.segment.weights import load_visual_network
from client.store.cohort import TrainingCases
from client.training.score import safety_margins
from client.visual_maps import VisualMaps
from common.config.protocol import Protocol
from common.config.radiomics import RadiomicsSettings
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.metrics.roc import auc
from common.networks.fused_head import initial_weights
from common.stats.moments import finish, summarise_squares_array, summarise_sums_array
from common.tables import TestTable, TrainingTable
from simulation.federated_training import federated_training
from simulation.statistics.estimate import federated_moments, federated_selection

Array = np.ndarray[Any, Any]
Names = tuple[str, ...]
PROTOCOL = Protocol.model_validate({"name": "benchmark", "training": {"encoding": "float32", "broadcast": "float32"}})
VARIANTS = {name: VISUAL.model_copy(update={"variant": name}) for name in ("bottleneck", "unet2d", "pooled", "random_projection")}  # fmt: skip


def measure(folder: Path, number: int) -> tuple[Array, dict[str, Array]]:
    """Radiomics, and the visual features of each variant in single precision."""
    make_case(folder, number)
    case = load_case(folder, number)
    images, visual = (case["T1CE"], case["FLAIR"], case["mask"]), {}
    for name, settings in VARIANTS.items():
        network = load_visual_network(PROTOCOL.model_copy(update={"visual": settings}), device="cpu")
        visual[name] = extract_visual(*images, settings, network=network, device="cpu")
    return extract_radiomics(*images, RadiomicsSettings()).values, visual


def margins(table: TrainingTable, test: TestTable, array: Array, *, signature: Names) -> Array:
    """Safety margins of the test cases, whose maps come last, by a classifier trained on the others."""
    maps = VisualMaps.of(array)
    cases = len(table)
    own = TrainingCases(table, maps.take(range(cases)), tuple(str(i) for i in range(cases)))
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
    return safety_margins(test, unseen, model, head=PROTOCOL.head, device="cpu")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=int, default=60)
    parser.add_argument("--test", type=int, default=40)
    options = parser.parse_args()
    cases = options.training + options.test
    pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))
    with pool, tempfile.TemporaryDirectory() as name:
        list(pool.map(warm_up, range(WORKERS)))
        rows = list(pool.map(partial(measure, Path(name)), range(cases)))
    values, altered = np.array([row[0] for row in rows]), np.arange(cases) % 2 == 1
    names, first = PROTOCOL.radiomics.names(), slice(options.training)
    table = TrainingTable(names, values[first], altered[first])
    test = TestTable(names, values[options.training :], altered[options.training :])
    signature = federated_selection([table], PROTOCOL.selection).chosen.names
    print(f"{options.training} training cases, {options.test} test cases")
    summary = {}
    for variant, settings in VARIANTS.items():
        single = np.array([row[1][variant] for row in rows])
        half = np.array([as_stored(row, settings) for row in single])
        fused, stored = (margins(table, test, array, signature=signature) for array in (single, half))
        alone = margins(table, test, single, signature=())
        summary[variant] = {
            "length": settings.length,
            "auc": float(auc(fused, test.altered)),
            "auc_without_radiomics": float(auc(alone, test.altered)),
            "half_precision_moves_a_score_by": float(np.abs(_score(fused) - _score(stored)).max()),
        }
        print(
            f"{variant:<18} {settings.length:>9,} values   AUC {summary[variant]['auc']:.3f}, without radiomics "
            f"{summary[variant]['auc_without_radiomics']:.3f}   half precision moves a score by at most "
            f"{summary[variant]['half_precision_moves_a_score_by']:.1e}"
        )
    print(json.dumps(summary))


def _score(margin: Array) -> Array:
    return 1 / (1 + np.exp(-margin))


if __name__ == "__main__":
    main()
