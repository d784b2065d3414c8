"""training: what a round costs, in seconds and bytes, and that the cheap way gives the same answer.

    python -m benchmarks.training           1,048,576 visual features, the paper's size
    python -m benchmarks.training --quick   131,072

local round   5 epochs, batch 16, 68 cases, from opening the features to the update ready to send, against plain torch
              in the same run; the best of several runs, taken in turns
bytes         of one site's update in each encoding, and how far it moves any test score of the federated model
federation    10 rounds, three sites, in process, from cached features, all phases
equal task    the same federated averaging on NVIDIA FLARE's simulator, on plain Flower's and on ours (benchmarks.flare)
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.flare import against_flare
from benchmarks.peak_memory import PeakMemory
from client.store.cohort import TrainingCases
from client.tasks.train_round import train_and_pack
from client.training.fused import train_plain
from client.training.local_task import LocalTask
from client.training.score import safety_margins
from client.visual_maps import VisualMaps
from common.config.protocol import Protocol
from common.config.visual import VisualSettings
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.messages.weight_update import Change, LowRank, pack
from common.metrics.roc import auc
from common.networks.fused_head import initial_weights
from common.seeds import stream
from common.tables import FeatureTable, TrainingTable
from server.state import StudyState
from simulation.engines import run_local
from simulation.federated_training import federated_training
from tests.builders import write_federation

CASES, SITES = 68, 3
CORES = os.cpu_count() or 1
NAMES = tuple(f"feature-{i:02d}" for i in range(19))

Array = np.ndarray[Any, Any]
ENCODINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("float32", {}),
    ("float16", {}),
    ("int8", {}),
    ("low_rank", {}),
    ("low_rank_int8", {}),
)


def write_maps(folder: Path, cases: int, length: int) -> tuple[list[Path], Array, Array]:
    """Half-precision maps as a U-Net's: 256 channels with a shape each, switched by the case; files, labels, table."""
    rng = stream(5, "training-bench")
    altered = rng.permutation(np.arange(cases) % 2 == 0)
    shapes = rng.standard_normal((256, length // 256), dtype=np.float32)
    effect = np.where(np.arange(256) < 40, 0.35, 0) * rng.choice([-1, 1], 256)
    files = []
    for i in range(cases):
        switch = (0.5 + 0.5 * rng.standard_normal(256) + effect * (1 if altered[i] else -1)).astype(np.float32)
        noise = rng.standard_normal(shapes.shape, dtype=np.float32)
        files.append(folder / f"{i}.npy")
        np.save(files[-1], np.maximum(switch[:, None] * shapes + 0.6 * noise, 0).astype(np.float16).reshape(-1))
    table = rng.standard_normal((cases, len(NAMES))) + 0.3 * altered[:, None] * rng.random(len(NAMES))
    return files, altered, table


def open_maps(files: list[Path], length: int) -> VisualMaps:
    """Mapped, as a hospital's store opens them."""
    return VisualMaps(tuple(np.load(f, mmap_mode="r", allow_pickle=False) for f in files), length)


def first_model(maps: VisualMaps, protocol: Protocol) -> ModelState:
    """The study's first weights, and the moments of these maps."""
    total, squares = np.zeros(maps.length), np.zeros(maps.length)
    for row in maps:
        wide = row.astype(np.float64)
        total, squares = total + wide, squares + wide * wide
    mean = total / len(maps)
    return ModelState(
        harmoniser=Harmoniser(),
        weights=initial_weights(maps.length, len(NAMES), protocol.head, seed=protocol.seed),
        signature=NAMES,
        radiomics_mean=np.zeros(len(NAMES)),
        radiomics_deviation=np.ones(len(NAMES)),
        visual_mean=mean.astype(np.float32),
        visual_deviation=np.sqrt(squares / len(maps) - mean**2).astype(np.float32),
    )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds on the wall, and the result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def on_all_cores(work: Callable[[], Any]) -> Any:
    """With torch's own threads, which may change the last bits; the Gram engine's do not."""
    torch.set_num_threads(CORES)
    try:
        return work()
    finally:
        torch.set_num_threads(1)


def local_round(files: list[Path], altered: Array, table: Array, protocol: Protocol, repeats: int) -> dict[str, Any]:
    """Plain torch, the Gram engine in the first round and in a later one; on one thread and on all cores."""
    length = protocol.visual.length
    model = first_model(open_maps(files[:CASES], length), protocol)
    training = TrainingTable(NAMES, table[:CASES], altered[:CASES])

    def task() -> LocalTask:
        maps = open_maps(files[:CASES], length)
        return LocalTask(training, maps, model, protocol.head, protocol.training, 1, "site", 1)

    gram = train_and_pack(task()).local.gram
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: pack(train_plain(task()).changes, "float32", stream(1)),
        "first": lambda: train_and_pack(task()),
        "later": lambda: train_and_pack(replace(task(), gram=gram)),
        "plain, all cores": lambda: on_all_cores(ways["plain"]),
        "later, all cores": lambda: train_and_pack(replace(task(), gram=gram, threads=CORES)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            seconds[name].append(timed(work)[0])
    best = {name: min(runs) for name, runs in seconds.items()}
    exact = replace(task(), training=protocol.training.model_copy(update={"encoding": "float32"}))
    ours, theirs = _arrays(train_and_pack(exact).local.changes), _arrays(train_plain(exact).changes)
    difference = max(np.linalg.norm(ours[n] - theirs[n]) / np.linalg.norm(theirs[n]) for n in theirs)
    for name, lowest in best.items():
        print(
            f"local round: {name:<18} {lowest:8.3f} s   {best['plain'] / lowest:5.1f} times as fast as plain on one thread"
        )
    print(f"  largest relative difference of the change {difference:.1e}")
    return {
        "seconds": best,
        "ratio_first": best["plain"] / best["first"],
        "ratio_later": best["plain"] / best["later"],
        "relative_difference": float(difference),
    }


def _arrays(changes: Mapping[str, Change]) -> dict[str, Array]:
    """As they are in float32, which has no factors."""
    found = {name: change for name, change in changes.items() if not isinstance(change, LowRank)}
    if len(found) < len(changes):
        raise TypeError("a change in factors")
    return found


def encodings(files: list[Path], altered: Array, table: Array, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Federated training in each encoding, judged by its test scores against float32's."""
    length, n = protocol.visual.length, SITES * CASES
    maps = open_maps(files, length)
    model = first_model(maps.take(range(n)), protocol)
    sites = {
        f"site-{s}": TrainingCases(
            TrainingTable(NAMES, table[s * CASES : (s + 1) * CASES], altered[s * CASES : (s + 1) * CASES]),
            maps.take(range(s * CASES, (s + 1) * CASES)),
            (),
        )
        for s in range(SITES)
    }
    test = FeatureTable(NAMES, table[n:], altered[n:])
    held_out = maps.take(range(n, len(maps)))
    found: dict[str, dict[str, float]] = {}
    reference = np.zeros(0)
    for name, settings in ENCODINGS:
        training = protocol.training.model_copy(update={"encoding": name, **settings})
        run = federated_training(sites, model, protocol.model_copy(update={"training": training}))
        margins = safety_margins(test, held_out, run.model, head=protocol.head, device="cpu")
        scores = 1 / (1 + np.exp(-margins))
        reference = scores if name == "float32" else reference
        found[name] = {
            "bytes_up_mean": float(np.mean(run.bytes_up)),
            "bytes_up_largest": float(max(run.bytes_up)),
            "largest_score_change": float(np.abs(scores - reference).max()),
            "auc": auc(margins, test.altered),
        }
        line = found[name]
        share = line["bytes_up_mean"] / found["float32"]["bytes_up_mean"]
        print(
            f"{name:<14} {line['bytes_up_mean'] / 1e6:8.2f} MB a round ({share:6.1%}), at most"
            f" {line['bytes_up_largest'] / 1e6:6.2f};  scores move by {line['largest_score_change']:.1e},"
            f" AUC {line['auc']:.4f}"
        )
    return found


def federation(folder: Path, protocol: Protocol) -> dict[str, Any]:
    """The whole study over three hospitals of 90 cases each."""
    made = write_federation(folder, protocol, {"aachen": 90, "bern": 90, "cork": 90})
    memory = PeakMemory()
    memory.start()
    seconds, state = timed(lambda: run_local(made.study, list(made.sites.values())))
    phases: dict[str, float] = {}
    for exchange in state.exchanges:
        phases[exchange.phase] = phases.get(exchange.phase, 0.0) + exchange.seconds
    rounds = [e for e in state.exchanges if e.action == "train_round"]
    up, down = rounds[-1].bytes_up["bern"], rounds[-1].bytes_down["bern"]
    print(f"federation, {len(rounds)} rounds, 3 sites {seconds:6.1f} s   {_shares(phases)}   {state.status()}")
    print(
        f"  last round of one site: {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down; peak {memory.peak / 2**30:.2f} GiB"
    )
    return {
        "seconds": seconds,
        "phases": phases,
        "bytes_up": up,
        "bytes_down": down,
        "peak_gib": memory.peak / 2**30,
        "status": _completed(state),
    }


def _shares(phases: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in phases.items())


def _completed(state: StudyState) -> str:
    if state.status() != "completed":
        raise RuntimeError(state.status())
    return state.status()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="the last line is JSON anyway; kept for scripts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    protocol = Protocol(name="bench", visual=VisualSettings(crop_voxels=64 if options.quick else 128))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, altered, table = write_maps(folder, SITES * CASES + 50, protocol.visual.length)
        result = {
            "visual_features": protocol.visual.length,
            "local_round": local_round(files, altered, table, protocol, 3),
            "encodings": encodings(files, altered, table, protocol),
        }
        for file in files:
            file.unlink()
        result["federation"] = federation(folder, protocol)
    result["equal_task"] = against_flare(10_000 if options.quick else 10_485_760)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
