"""table_reconstruction: what a site's table by feature, bin and class tells of single persons.

    status told      somebody in a bin in which all are of one class has that class: H3 K27 status for certain
    singled out      somebody who is alone in a cell

The attacker knows in which bin of each feature a person lies: from the images, which a hospital that the patient
visited later has.  Attribute and identity disclosure by small cells: Hundepool et al. 2012, Statistical Disclosure
Control, chapter 5; reconstruction from many marginals: Dinur and Nissim 2003, 10.1145/773153.773173.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.messages.contingency import ContingencyReply, ContingencyRequest
from common.messages.harmoniser import Harmoniser
from common.seeds import stream
from common.stats import contingency
from common.tables import TrainingTable
from simulation.attacks.material import Material
from simulation.attacks.outcome import Attack, Measured, Outcome
from simulation.attacks.server_view import admitted, sum_securely
from simulation.statistics.estimate import federated_quantiles

__all__ = ["attack_tables", "quantile_edges", "singled_out", "site_tables", "status_told"]

Array = np.ndarray[Any, Any]
THRESHOLD = 0.01
"""One person in a hundred."""
SITES = 3
Settings = tuple[tuple[int, int], ...]
USUAL: Settings = ((30, 5), (30, 10), (84, 5), (84, 10))


def status_told(counts: Array, table: TrainingTable, edges: Array) -> float:
    """Share of persons in at least one bin whose cases, as counted, are all of the person's class; and none otherwise."""
    bins = _bins(table, edges)
    mine, theirs = (
        np.stack([counts[np.arange(len(edges)), row, kind] for row, kind in zip(bins, klass, strict=True)])
        for klass in (table.altered.astype(int), 1 - table.altered.astype(int))
    )
    return float(((theirs == 0) & (mine > 0)).any(axis=1).mean())


def singled_out(counts: Array, table: TrainingTable, edges: Array) -> float:
    """Share of persons who are alone in at least one cell."""
    bins, kinds = _bins(table, edges), table.altered.astype(int)
    cells = np.stack([counts[np.arange(len(edges)), row, kind] for row, kind in zip(bins, kinds, strict=True)])
    return float((cells == 1).any(axis=1).mean())


def quantile_edges(tables: list[TrainingTable], bins: int) -> Array:
    """The study's own edges: features x (bins - 1)."""
    return federated_quantiles(tables, [i / bins for i in range(1, bins)])


def site_tables(material: Material, sites: int, seed: int, cases: int) -> dict[str, TrainingTable]:
    """Hospitals of so many cases with all features."""
    whole = material.radiomics
    order = stream(seed, "tables", sites).permutation(len(whole))[: sites * cases]
    parts = np.array_split(order, sites)
    return {
        f"site-{i}": TrainingTable(whole.names, whole.values[part], whole.altered[part]) for i, part in enumerate(parts)
    }


def _bins(table: TrainingTable, edges: Array) -> Array:
    """Persons x features, as common/stats/contingency.py counts them."""
    return np.stack(
        [np.searchsorted(e, column, side="right") for e, column in zip(edges, table.values.T, strict=True)], 1
    )


def attack_tables(material: Material, *, seed: int, settings: Settings = USUAL) -> Attack:
    """One hospital's table of every radiomics feature; and the sum of three; settings: cases and bins."""
    outcomes = []
    for cases, number in settings:
        tables = site_tables(material, SITES, seed, min(cases, len(material) // SITES))
        first = tables["site-0"]
        edges = quantile_edges(list(tables.values()), number)
        replies = {n: ContingencyReply(site=n, counts=contingency.summarise(t, edges)) for n, t in tables.items()}
        own = replies["site-0"]
        request = ContingencyRequest(fingerprint="attacked", harmoniser=Harmoniser(), edges=edges)
        total = sum_securely(replies, request).total
        if not isinstance(total, ContingencyReply):
            raise TypeError("the sum of tables")
        door = admitted("contingency", own)
        setting = f"{len(edges)} features x {number} bins, {len(first)} cases"
        for metric, attack in (("status told", status_told), ("singled out", singled_out)):
            clear = Measured(attack(own.counts, first, edges))
            let_out = Measured(0.0 if isinstance(door, str) else attack(door.counts, first, edges))
            how = f"the table is refused: {door}" if isinstance(door, str) else "the table leaves"
            summed = Measured(attack(total.counts, first, edges))
            outcomes += [
                Outcome(setting, metric, clear, "the door", let_out, 0.0, THRESHOLD, claimed=True, how=how),
                Outcome(
                    setting,
                    metric,
                    clear,
                    "secure sums",
                    summed,
                    0.0,
                    THRESHOLD,
                    claimed=False,
                    how=f"the sum of {SITES} such sites; nobody looks at its small cells",
                ),
            ]
    return Attack(
        name="table-reconstruction",
        title="H3 K27 status out of tables",
        question="From a hospital's table of cases by feature, bin and class: for how many of its patients does the H3 K27 status follow with certainty?",
        knows="the table, its edges, and in which bin each of the patient's radiomics features lies",
        source="Hundepool et al. 2012; Dinur and Nissim 2003",
        outcomes=tuple(outcomes),
        remains=(
            "The server opens the sum, and no rule looks at the sum's cells: with many bins, few cases or a feature that parts "
            "the classes, a bin of the sum may hold one class only. A signature that was chosen beforehand needs no table."
        ),
    )
