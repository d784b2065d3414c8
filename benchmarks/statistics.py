"""statistics: harmonisation and selection of 1,902 features over 70 sites and 100,000 cases, streamed.

    python -m benchmarks.statistics            the whole size, then how cost grows, then the peers
    python -m benchmarks.statistics --quick    a tenth of the cases

Two processes play all sites, one site at a time.  A site's features lie on disk before anything is measured, as the
feature store of a hospital has them (making them is told apart), and what it makes of them for the model is kept in
its cache between messages, by the product's own store; both are mapped, so their pages are the system's to take back.
The named peers are numpy and scikit-learn on the pooled table (StandardScaler, numpy.quantile, mutual_info_score per
feature).
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import StandardScaler

from benchmarks.peak_memory import PeakMemory
from client.store.harmonised_store import HarmonisedStore
from common.config.harmonisation import HarmonisationSettings
from common.config.modelling import SelectionSettings
from common.messages.harmoniser import Harmoniser
from common.seeds import stream
from common.stats import contingency, moments, quantiles
from common.stats.combat import (
    BatchDesign,
    apply_shifts,
    combine_cross_products,
    fit_location,
    fit_own_batches,
    summarise_cross_products,
)
from common.stats.mutual_information import mutual_information
from common.stats.selection import select_k_best
from common.tables import TrainingTable
from simulation.statistics.estimate import federated_moments, federated_selection

FEATURES, SITES, WORKERS = 1902, 70, 2
SETTINGS = HarmonisationSettings(method="combat")
NAMES = tuple(f"feature-{i:04d}" for i in range(FEATURES))

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Run:
    """What was measured of one size.

    seconds: by phase; processor: of both workers together; bytes_up: of one site's largest message, by phase; bytes_in_all: of all its messages;
    making: seconds before the start; disk: bytes of all sites' files.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)
    bytes_in_all: dict[str, int] = field(default_factory=dict)
    selected: tuple[str, ...] = ()
    making: float = 0.0
    disk: int = 0

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.seconds.values())


def make_site(site: int, cases: int) -> tuple[TrainingTable, BatchDesign]:
    """One hospital's cases: two scanners of its own, age and sex, 40 informative features."""
    rng = stream(11, "bench", site)
    altered = np.arange(cases) % 2 == 0
    values = rng.standard_normal((cases, FEATURES))
    values[:, :40] += 0.25 * altered[:, None]
    scanner = np.arange(cases) // 2 % 2
    values += 0.5 * rng.standard_normal((2, FEATURES))[scanner]
    covariates = np.stack([rng.uniform(8, 80, cases), rng.integers(0, 2, cases)], axis=1)
    batch = tuple(f"site-{site} scanner-{s}" for s in scanner)
    return TrainingTable(NAMES, values, altered), BatchDesign(batch, covariates, ("age", "sex"))


@dataclass(frozen=True)
class Hospitals:
    """Sites of `cases` cases each, whose tables lie in `folder`."""

    folder: Path
    cases: int

    def write(self, sites: Sequence[int]) -> None:
        """Their features, as the feature store would have them."""
        for site in sites:
            table, design = make_site(site, self.cases)
            np.save(self.folder / f"{site}.npy", table.values)
            np.savez(self.folder / f"{site}.npz", batch=design.batch, covariates=design.covariates)

    def extracted(self, site: int) -> tuple[TrainingTable, BatchDesign]:
        """Mapped."""
        values = np.load(self.folder / f"{site}.npy", mmap_mode="r")
        with np.load(self.folder / f"{site}.npz") as kept:
            design = BatchDesign(tuple(kept["batch"].tolist()), kept["covariates"], ("age", "sex"))
        return TrainingTable(NAMES, values, np.arange(self.cases) % 2 == 0), design

    def harmonised(self, site: int, harmoniser: Harmoniser) -> TrainingTable:
        """As client/tasks/load_cohort.py: kept from an earlier message, or fitted, applied and kept now."""
        table, design = self.extracted(site)
        store = HarmonisedStore(self.folder, f"site-{site}")
        key = store.key((f"site-{site}",), (), design, harmoniser, SETTINGS)
        values = store.load(key)
        if values is None:
            location = harmoniser.location()
            shifts = fit_own_batches(table, design, location, SETTINGS, {})
            values = apply_shifts(table.values, design, location, shifts)
            store.save(key, values)
        return table.with_values(values)


@dataclass(frozen=True)
class Answer:
    """A worker's sites, added up; largest: bytes of one site's arrays; processor: seconds the worker has used, which a
    busy machine stretches far less than the clock's.
    """

    total: Any
    largest: int
    processor: float = 0.0


def on_the_clock(work: Callable[[Sequence[int]], Answer], sites: Sequence[int]) -> Answer:
    """With the processor's seconds."""
    begun = time.process_time()
    answer = work(sites)
    return replace(answer, processor=time.process_time() - begun)


def cross_products(hospitals: Hospitals, sites: Sequence[int]) -> Answer:
    """For the location that all sites share."""
    parts = []
    for site in sites:
        found = summarise_cross_products(*hospitals.extracted(site), {})
        parts.append(combine_cross_products(list(found.values())))
    first = parts[0]
    size = 8 + sum(getattr(first, name).nbytes for name in ("features", "covariates", "cc", "cy", "yy"))
    return Answer(combine_cross_products(parts), size)


def sums(hospitals: Hospitals, harmoniser: Harmoniser, sites: Sequence[int]) -> Answer:
    """Of harmonised values."""
    parts = [moments.summarise_sums(hospitals.harmonised(s, harmoniser)) for s in sites]
    return Answer(moments.combine_sums(parts), parts[0].total.nbytes)


def squares(hospitals: Hospitals, harmoniser: Harmoniser, mean: Array, sites: Sequence[int]) -> Answer:
    """About the pooled mean."""
    parts = [moments.summarise_squares(hospitals.harmonised(s, harmoniser), mean) for s in sites]
    return Answer(moments.combine_squares(parts), parts[0].total.nbytes)


def digits(hospitals: Hospitals, harmoniser: Harmoniser, search: quantiles.Search, sites: Sequence[int]) -> Answer:
    """Counts of one step of the search."""
    sizes: list[int] = []

    def one(site: int) -> Array:
        counts = quantiles.summarise(hospitals.harmonised(site, harmoniser), search.prefix, search.step)
        sizes.append(counts.nbytes)
        return counts

    return Answer(quantiles.combine(map(one, sites)), max(sizes))


def tables(hospitals: Hospitals, harmoniser: Harmoniser, edges: Array, sites: Sequence[int]) -> Answer:
    """Contingency tables."""
    parts = [contingency.summarise(hospitals.harmonised(s, harmoniser), edges) for s in sites]
    return Answer(contingency.combine(parts), parts[0].nbytes)


def run(cases: int, sites: int, pool: ProcessPoolExecutor) -> Run:
    """ComBat, moments, quintiles, mutual information, 19 features."""
    with TemporaryDirectory() as folder:
        hospitals = Hospitals(Path(folder), cases // sites)
        shares = [list(range(w, sites, WORKERS)) for w in range(WORKERS)]
        begun = time.monotonic()
        list(pool.map(hospitals.write, shares))
        made = time.monotonic() - begun
        found = _run(hospitals, shares, pool)
        used = sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())
        return replace(found, making=made, disk=used)


def _run(hospitals: Hospitals, shares: Sequence[Sequence[int]], pool: ProcessPoolExecutor) -> Run:
    result = Run()

    def ask(what: str, work: Callable[[Sequence[int]], Answer]) -> list[Any]:
        begun = time.monotonic()
        answers = list(pool.map(partial(on_the_clock, work), shares))
        result.processor[what] = result.processor.get(what, 0.0) + sum(answer.processor for answer in answers)
        result.seconds[what] = result.seconds.get(what, 0.0) + time.monotonic() - begun
        largest = max(answer.largest for answer in answers)
        result.bytes_up[what] = max(result.bytes_up.get(what, 0), largest)
        result.bytes_in_all[what] = result.bytes_in_all.get(what, 0) + largest
        return [answer.total for answer in answers]

    location = fit_location(combine_cross_products(ask("combat", partial(cross_products, hospitals))))
    model = Harmoniser.combat(location, {})
    total = moments.combine_sums(ask("sums (harmonises first)", partial(sums, hospitals, model)))
    mean = total.total / total.count
    second = ask("squares", partial(squares, hospitals, model, mean))
    moments.finish(total, moments.combine_squares(second))
    search = quantiles.start(FEATURES, fractions=(0.2, 0.4, 0.6, 0.8), cases=total.count)
    while not quantiles.finished(search):
        counts = ask(f"quintile edges, {quantiles.STEPS} exchanges", partial(digits, hospitals, model, search))
        search = quantiles.advance(search, quantiles.combine(counts))
    edges = quantiles.finish(search)
    summed = contingency.combine(ask("contingency tables", partial(tables, hospitals, model, edges)))
    chosen = select_k_best(NAMES, mutual_information(summed), 19).names
    return replace(result, selected=chosen)


def against_peers() -> dict[str, float]:
    """Moments and selection of 254 pooled cases: ours over three sites, scikit-learn on one table."""
    parts = [make_site(s, n)[0] for s, n in enumerate((90, 82, 82))]
    values = np.concatenate([p.values for p in parts])
    altered = np.concatenate([p.altered for p in parts])
    begun = time.monotonic()
    federated_moments(parts)
    found = federated_selection(parts, SelectionSettings())
    ours = time.monotonic() - begun
    begun = time.monotonic()
    StandardScaler().fit(values)
    edges = np.quantile(values, (0.2, 0.4, 0.6, 0.8), axis=0)
    scores = [mutual_info_score(altered, np.searchsorted(edges[:, j], c, side="right")) for j, c in enumerate(values.T)]
    theirs = time.monotonic() - begun
    difference = float(np.max(np.abs(found.scores - scores)))
    return {"ours_s": ours, "scikit_learn_s": theirs, "ratio": theirs / ours, "largest_difference_nats": difference}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    cases = 10_000 if parser.parse_args().quick else 100_000
    memory = PeakMemory()
    memory.start()
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(abs, range(WORKERS)))
        whole = run(cases, SITES, pool)
        peak = memory.peak / 2**30  # before the peers, which hold the pooled table
        print(
            f"{FEATURES} features, {SITES} sites, {cases:,} cases: {whole.total:.1f} s ({sum(whole.processor.values()):.1f} s of"
            f" processor, two workers), peak {peak:.2f} GiB"
            f" of memory, {whole.disk / 2**30:.2f} GiB on the sites' disks (making the tables: {whole.making:.1f} s before)"
        )
        for what, seconds in whole.seconds.items():
            most, all_of_them = whole.bytes_up[what] / 1e6, whole.bytes_in_all[what] / 1e6
            print(
                f"  {what:<30} {seconds:7.1f} s {whole.processor[what]:7.1f} s of processor {most:7.3f} MB a message at most, {all_of_them:7.3f} MB in all, per site"
            )
        informative = sum(int(name[-4:]) < 40 for name in whole.selected)
        print(f"  {informative} of the 19 chosen are among the 40 informative ones")
        half, few = run(cases // 2, SITES, pool), run(cases // 2, SITES // 10, pool)
    print(f"twice the cases, same sites: {whole.total / half.total:.2f} times the time")
    print(f"ten times the sites, same cases: {half.total / few.total:.2f} times the time")
    peers = against_peers()
    print(f"254 cases: scikit-learn pooled {peers['scikit_learn_s']:.2f} s, federated {peers['ours_s']:.2f} s")
    print(
        json.dumps(
            {
                "cases": cases,
                "seconds": whole.total,
                "peak_gib": peak,
                "phases": whole.seconds,
                "processor_seconds": whole.processor,
                "seconds_making_tables": whole.making,
                "disk_gib": whole.disk / 2**30,
                "bytes_up_per_site": whole.bytes_up,
                "bytes_up_per_site_in_all": whole.bytes_in_all,
                "time_ratio_double_cases": whole.total / half.total,
                "time_ratio_ten_times_sites": half.total / few.total,
                "against_scikit_learn": peers,
            }
        )
    )


if __name__ == "__main__":
    main()
