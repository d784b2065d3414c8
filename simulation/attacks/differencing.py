"""differencing: what two sums tell that each alone does not: their difference.

    a site leaves between two sums     the difference is that site's own numbers
    a study again without one case     the difference of two sums over a hospital's cases is that case

Trackers: Denning and Denning 1979, 10.1145/356789.356794; overlap of query sets: Dobkin et al. 1979,
10.1145/320064.320068.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.errors import Refused
from common.messages.contingency import ContingencyReply, ContingencyRequest
from common.messages.harmoniser import Harmoniser
from common.messages.moments import MomentsReply, MomentsRequest
from common.stats import contingency, moments
from common.tables import TrainingTable
from simulation.attacks.material import Material
from simulation.attacks.outcome import Attack, Measured, Outcome
from simulation.attacks.server_view import admitted, sum_securely
from simulation.attacks.table_reconstruction import quantile_edges, site_tables, status_told

__all__ = ["attack_differences", "recovered"]

Array = np.ndarray[Any, Any]
THRESHOLD = 0.05
BINS = 5
NOTHING = np.zeros(0)
CLOSE = 0.01
"""A feature counts as read when it is off by less than a hundredth of its deviation."""


def recovered(found: Array, true: Array, deviation: Array) -> float:
    """Share of a person's features that are read."""
    return float((np.abs(found - true) < CLOSE * deviation).mean())


def attack_differences(material: Material, *, seed: int) -> Attack:
    """Both differences, in the clear and summed securely."""
    return Attack(
        name="differencing",
        title="Two sums and their difference",
        question="What does the server learn from asking the same twice, with one site or one patient less the second time?",
        knows="both sums; for the H3 K27 status also in which bins the patient's features lie",
        source="Denning and Denning 1979; Dobkin et al. 1979",
        outcomes=(*_site_leaves(material, seed), *_case_leaves(material, seed)),
        remains=(
            "Secure sums over four or more sites are made again when one is lost, and the server then has both. A case that is "
            "withdrawn can be read off the difference of two runs, in the clear and under secure sums alike. Until sums carry "
            "noise: withdraw several cases together, ten or more, or let new ones come in the same run; and agree in the "
            "protocol that a site which is lost in a sum of tables stays out of the study."
        ),
    )


def _site_leaves(material: Material, seed: int) -> list[Outcome]:
    """Tables of all sites, and again without the last."""
    outcomes = []
    for sites in (3, 4):
        tables = site_tables(material, sites, seed, len(material) // sites)
        edges = quantile_edges(list(tables.values()), BINS)
        replies = {n: ContingencyReply(site=n, counts=contingency.summarise(t, edges)) for n, t in tables.items()}
        last = max(tables)
        clear = Measured(status_told(replies[last].counts, tables[last], edges))
        setting = f"one of {sites} sites is lost"
        request = ContingencyRequest(fingerprint="attacked", harmoniser=Harmoniser(), edges=edges)
        difference, how = _difference(replies, last, request)
        told = Measured(0.0 if difference is None else status_told(difference, tables[last], edges))
        door = admitted("contingency", replies[last])
        refused = isinstance(door, str)
        kept = Measured(0.0 if isinstance(door, str) else status_told(door.counts, tables[last], edges))
        metric = "status told"
        outcomes += [
            Outcome(
                setting,
                metric,
                clear,
                "the door",
                kept,
                0.0,
                THRESHOLD,
                claimed=True,
                how=f"refused: {door}" if refused else "",
            ),
            Outcome(setting, metric, clear, "secure sums", told, 0.0, THRESHOLD, claimed=difference is None, how=how),
        ]
    return outcomes


def _difference(
    replies: dict[str, ContingencyReply], lost: str, request: ContingencyRequest
) -> tuple[Array | None, str]:
    """What the second sum adds to the first; None where it is refused."""
    left = {name: reply for name, reply in replies.items() if name != lost}
    whole = sum_securely(replies, request).total
    try:
        rest = sum_securely(left, request).total
    except Refused as refusal:
        return None, f"the second sum is refused: {refusal.code}"
    if not isinstance(whole, ContingencyReply) or not isinstance(rest, ContingencyReply):
        raise TypeError("sums of tables")
    return whole.counts - rest.counts, "the difference is the lost site's table"


def _case_leaves(material: Material, seed: int) -> list[Outcome]:
    """Sums of three sites' features, and again after one case was withdrawn from the first."""
    tables = site_tables(material, 3, seed, len(material) // 3)
    first = tables["site-0"]
    person, deviation = first.values[0], material.radiomics.values.std(axis=0)
    without = {**tables, "site-0": TrainingTable(first.names, first.values[1:], first.altered[1:])}
    before, after = ({name: _sums(name, table) for name, table in part.items()} for part in (tables, without))
    alone = recovered(before["site-0"].radiomics - after["site-0"].radiomics, person, deviation)
    clear = Measured(alone)
    both = [admitted("moments", part["site-0"]) for part in (before, after)]
    through = Measured(alone if all(isinstance(reply, MomentsReply) for reply in both) else 0.0)
    request = MomentsRequest(fingerprint="attacked", harmoniser=Harmoniser())
    totals = [sum_securely(part, request).total for part in (before, after)]
    if not isinstance(totals[0], MomentsReply) or not isinstance(totals[1], MomentsReply):
        raise TypeError("sums of moments")
    summed = Measured(recovered(totals[0].radiomics - totals[1].radiomics, person, deviation))
    mean = recovered(material.radiomics.values.mean(axis=0), person, deviation)
    setting, metric = "a study again without one case", "features read"
    return [
        Outcome(
            setting, metric, clear, "the door", through, mean, THRESHOLD, claimed=False,
            how="each sum has enough cases behind it; the door does not compare two",
        ),
        Outcome(
            setting, metric, clear, "secure sums", summed, mean, THRESHOLD, claimed=False,
            how="the difference of the two sums over all sites is the case",
        ),
    ]  # fmt: skip


def _sums(name: str, table: TrainingTable) -> MomentsReply:
    found = moments.summarise_sums(table)
    return MomentsReply(site=name, count=found.count, radiomics=found.total, visual=NOTHING)
