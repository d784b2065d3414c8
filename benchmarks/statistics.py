"""statistics: harmonisation and selection of 1,902 features over 70 sites and 100,000 cases, streamed.

    python -m benchmarks.statistics            the whole size, then how cost grows, then the peers
    python -m benchmarks.statistics --quick    a tenth of the cases

Each site's table exists only while it answers, as in a hospital; two processes play all sites.  The named peers are
numpy and scikit-learn on the pooled table (StandardScaler, numpy.quantile, mutual_info_score per feature).
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import StandardScaler

from benchmarks.peak_memory import PeakMemory
from common.config.harmonisation import HarmonisationSettings
from common.config.modelling import SelectionSettings
from common.seeds import stream
from common.stats import contingency, moments, quantiles
from common.stats.combat import (
    BatchDesign,
    Location,
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


@dataclass(frozen=True)
class Run:
    """What was measured of one size."""

    seconds: dict[str, float] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)
    selected: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.seconds.values())


def site_table(site: int, cases: int) -> tuple[TrainingTable, BatchDesign]:
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


def harmonised(site: int, cases: int, location: Location) -> TrainingTable:
    """As a hospital does for every message: fit its own scanners, apply."""
    table, design = site_table(site, cases)
    shifts = fit_own_batches(table, design, location, SETTINGS, {})
    return table.with_values(apply_shifts(table.values, design, location, shifts))


def cross_products(cases: int, sites: Sequence[int]) -> Any:
    """A worker's sites, added up."""
    parts = []
    for site in sites:
        found = summarise_cross_products(*site_table(site, cases), {})
        parts.append(combine_cross_products(list(found.values())))
    return combine_cross_products(parts)


def sums(cases: int, location: Location, sites: Sequence[int]) -> Any:
    """Of harmonised values."""
    return moments.combine_sums([moments.summarise_sums(harmonised(s, cases, location)) for s in sites])


def squares(cases: int, location: Location, mean: np.ndarray, sites: Sequence[int]) -> Any:
    """About the pooled mean."""
    return moments.combine_squares([moments.summarise_squares(harmonised(s, cases, location), mean) for s in sites])


def digits(cases: int, location: Location, search: quantiles.Search, sites: Sequence[int]) -> Any:
    """Counts of one step of the search."""
    total = np.zeros((*search.prefix.shape, quantiles.DIGITS), np.int64)
    for site in sites:
        total += quantiles.summarise(harmonised(site, cases, location), search.prefix, search.step)
    return total


def tables(cases: int, location: Location, edges: np.ndarray, sites: Sequence[int]) -> Any:
    """Contingency tables."""
    return contingency.combine([contingency.summarise(harmonised(s, cases, location), edges) for s in sites])


def run(cases: int, sites: int, pool: ProcessPoolExecutor) -> Run:
    """ComBat, moments, quintiles, mutual information, 19 features."""
    each, result = cases // sites, Run()
    shares = [list(range(w, sites, WORKERS)) for w in range(WORKERS)]

    def ask(what: str, work: Callable[[Sequence[int]], Any], size: int) -> list[Any]:
        begun = time.monotonic()
        answers = list(pool.map(work, shares))
        result.seconds[what] = result.seconds.get(what, 0.0) + time.monotonic() - begun
        result.bytes_up[what] = size
        return answers

    numbers = FEATURES * 4 + 4 + 2 + 1
    location = fit_location(combine_cross_products(ask("combat", partial(cross_products, each), 8 * numbers)))
    total = moments.combine_sums(ask("sums", partial(sums, each, location), 8 * FEATURES))
    mean = total.total / total.count
    second = ask("squares", partial(squares, each, location, mean), 8 * FEATURES)
    moments.finish(total, moments.combine_squares(second))
    search = quantiles.start(FEATURES, fractions=(0.2, 0.4, 0.6, 0.8), cases=total.count)
    while not quantiles.finished(search):
        size = 2 * search.prefix.size * quantiles.DIGITS
        counts = ask(f"quintile edges, {quantiles.STEPS} exchanges", partial(digits, each, location, search), size)
        search = quantiles.advance(search, np.sum(counts, axis=0))
    edges = quantiles.finish(search)
    summed = contingency.combine(ask("contingency tables", partial(tables, each, location, edges), 8 * FEATURES * 10))
    chosen = select_k_best(NAMES, mutual_information(summed), 19).names
    return Run(result.seconds, result.bytes_up, chosen)


def against_peers() -> dict[str, float]:
    """Moments and selection of 254 pooled cases: ours over three sites, scikit-learn on one table."""
    parts = [site_table(s, n)[0] for s, n in enumerate((90, 82, 82))]
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
        print(
            f"{FEATURES} features, {SITES} sites, {cases:,} cases: {whole.total:.1f} s, peak {memory.peak / 2**30:.2f} GiB"
        )
        for what, seconds in whole.seconds.items():
            print(f"  {what:<30} {seconds:7.1f} s   {whole.bytes_up[what] / 1e6:9.3f} MB from each site per exchange")
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
                "peak_gib": memory.peak / 2**30,
                "phases": whole.seconds,
                "bytes_up_per_site": whole.bytes_up,
                "time_ratio_double_cases": whole.total / half.total,
                "time_ratio_ten_times_sites": half.total / few.total,
                "against_scikit_learn": peers,
            }
        )
    )


if __name__ == "__main__":
    main()
