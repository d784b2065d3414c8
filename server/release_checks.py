"""release_checks: is what a release tells of cases structurally safe?  From the study's state alone, before it leaves.

Names, definitions and limits after SACRO-ML's structural attack (Smith et al. 2022, arXiv 2212.01233; its
`dof_risk`, `smallgroup_risk`, `class_disclosure_risk`, `k_anonymity_risk`, `gen_error_risk`) and ACRO's defaults
(`safe_threshold` 10, `safe_dof_threshold` 10, zeros disclosive).  Those look at a model beside its training cases;
the server has none, so groups are the cells of the histograms and tables that the sites sent:

    degrees-of-freedom   training cases minus learned parameters
    small-groups         fewest cases behind a released count or behind a cell of the released threshold
    case-values          numbers of single cases: lists as long as the cohort, statistics of a few cases
    class-disclosure     groups of whom the release tells that all have one status, or all the same score
    k-anonymity          fewest cases that share a bin of a signature feature
    generalisation-gap   training losses unlike test losses (Kolmogorov-Smirnov, P < 0.05)
    memorised-cases      room in the big layer to hold cases: its change lies in their span

A study of usual size with the paper's head fails the first and the last by construction, which is what whoever
releases it must know, accept and give a reason for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import ks_2samp

from common.metrics.score_histogram import cells_of
from common.privacy.small_cells import MIN_CELL
from server.reporting.evaluation import server_view
from server.state import StudyState

__all__ = ["CHECKS", "Check", "check_release"]

LEAST_FREEDOM = 10
SIGNIFICANT = 0.05
MOST = 0.99
"""Of the energy of what a layer has learned."""
BIG = "visual.weight"


class Check(BaseModel):
    """found: with figures, in words; limit: what would have passed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    found: str
    limit: str


def check_release(state: StudyState) -> tuple[Check, ...]:
    """All checks of a finished study, in the order above."""
    return tuple(check(state) for check in CHECKS.values())


def _freedom(state: StudyState) -> Check:
    cases, parameters = _training_cases(state), sum(weight.size for weight in state.weights.values())
    return Check(
        name="degrees-of-freedom",
        passed=cases - parameters >= LEAST_FREEDOM,
        found=f"{cases} training cases, {parameters:,} parameters: {cases - parameters:,} residual degrees of freedom",
        limit=f"at least {LEAST_FREEDOM}",
    )


def _small_groups(state: StudyState) -> Check:
    groups = {f"training cases of {site}": sum(reply.training_cases) for site, reply in state.qualified.items()}
    groups |= {f"test cases of {site}": reply.tested for site, reply in state.qualified.items() if reply.tested}
    for part, counts in state.histograms.items():
        cells = cells_of(counts).confusion_below(0.0)
        names = ("altered, called so", "altered, missed", "not altered, called so", "not altered, called altered")
        sizes = (cells.tp, cells.fn, cells.tn, cells.fp)
        groups |= {f"{part} cases {name}": size for name, size in zip(names, sizes, strict=True)}
    where = min(sorted(groups), key=lambda name: groups[name])
    return Check(
        name="small-groups",
        passed=groups[where] >= MIN_CELL,
        found=f"smallest group: {where}, {groups[where]}",
        limit=f"at least {MIN_CELL} cases behind every released count, zero not excepted",
    )


def _case_values(state: StudyState) -> Check:
    from common.networks.first_weights import ENCODER

    model, found = state.model(), []
    known = {BIG, "visual.bias", "fusion.weight", "fusion.bias"}
    found += [f"unknown array {name}" for name in model.weights if name not in known and not name.startswith(ENCODER)]
    few = [n for n in model.harmoniser.cases if n < MIN_CELL]
    found += [f"a scanner's shift from {min(few)} cases"] if few else []
    if state.moments is not None and state.moments.cases < MIN_CELL:
        found.append(f"means of {state.moments.cases} cases")
    cohorts = {int(counts.sum()) for counts in (*state.histograms.values(), *state.site_histograms.values())}
    found += [f"{place}: {n} numbers" for place, n in _lists(server_view(state), "metrics") if n in cohorts and n > 2]
    return Check(
        name="case-values",
        passed=not found,
        found="; ".join(found)
        or "weights, means and deviations, pooled figures; no minimum, maximum, score or row of a case",
        limit=f"no number of a single case, no statistic of fewer than {MIN_CELL}",
    )


def _class_disclosure(state: StudyState) -> Check:
    found = []
    selection = state.selection
    if selection is not None and selection.one_class_bins:
        found.append(f"{selection.one_class_bins} bins of signature features with training cases of one class only")
    for part, counts in state.histograms.items():
        others, altered = counts
        for name, row in (("altered", altered), ("not altered", others)):
            if row.sum() and row.max() == row.sum():
                found.append(f"all {int(row.sum())} {name} {part} cases score alike")
        ends: list[int] = [
            int(row[place]) for row, other, place in ((altered, others, 0), (others, altered, -1)) if not other[place]
        ]
        extreme = sum(ends)
        if part == "training" and extreme:
            found.append(f"{extreme} training cases score so near 0 or 1 (1e-7) as nobody of the other class")
    return Check(
        name="class-disclosure",
        passed=not found,
        found="; ".join(found) or "no bin, cell or end of the scale belongs to one class for certain",
        limit="no group of whom the status follows",
    )


def _k_anonymity(state: StudyState) -> Check:
    selection, bins = state.selection, state.protocol.selection.bins
    smallest = None if selection is None else selection.smallest_bin
    limit = f"at least {MIN_CELL} cases in every bin"
    if selection is None or selection.edges.shape[1] == 0:
        return Check(name="k-anonymity", passed=True, found="the signature was chosen without a table", limit=limit)
    if smallest is None:
        found = "the study is from before the smallest bin was kept, so it is not known"
        return Check(name="k-anonymity", passed=False, found=found, limit=limit)
    features, cases = len(selection.signature), _training_cases(state)
    return Check(
        name="k-anonymity",
        passed=smallest >= MIN_CELL,
        found=f"k = {smallest} in the smallest bin of one feature; by all {features} features together there are "
        f"{bins}^{features} combinations for {cases} cases, so nearly everybody is alone in one",
        limit=limit,
    )


def _generalisation(state: StudyState) -> Check:
    losses = {part: _losses(counts) for part, counts in state.histograms.items()}
    if len(losses) < 2 or not all(len(part) for part in losses.values()):
        # Record-level privacy tells no training score, and bounds what a gap could tell of a case.
        private = state.protocol.privacy.record_level is not None
        found = "the scores of one of the sets are not told"
        return Check(name="generalisation-gap", passed=private, found=found, limit="both sets, or record-level privacy")
    test = ks_2samp(losses["training"], losses["test"])
    means = [float(np.mean(losses[part])) for part in ("training", "test")]
    return Check(
        name="generalisation-gap",
        passed=bool(test.pvalue >= SIGNIFICANT),
        found=f"mean loss {means[0]:.3f} in training, {means[1]:.3f} in test; Kolmogorov-Smirnov P {test.pvalue:.3g}",
        limit=f"P at least {SIGNIFICANT}",
    )


def _losses(counts: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of every case at the lower end of its cell, which moves both sets alike."""
    cells = cells_of(counts)
    margins = np.where(np.isfinite(cells.lower), cells.lower, cells.lower[1])
    others, altered = counts
    found = np.concatenate([np.repeat(-margins, others), np.repeat(margins, altered)])
    return np.asarray(np.logaddexp(0, found), np.float64)


def _memorised(state: StudyState) -> Check:
    from common.networks.first_weights import first_weights

    cases, big = _training_cases(state), state.weights[BIG]
    selection = state.selection
    first = first_weights(state.protocol, 0 if selection is None else len(selection.signature))[BIG].ravel()
    kept = float(big.ravel() @ first) / float(first @ first)
    moved = big - (np.float32(kept) * first).reshape(big.shape)
    energy = np.linalg.eigvalsh((moved @ moved.T).astype(float))[::-1].clip(0).cumsum()
    rank = 0 if energy[-1] == 0 else int((energy < MOST * energy[-1]).sum()) + 1
    return Check(
        name="memorised-cases",
        passed=big.shape[1] <= cases or state.protocol.privacy.record_level is not None,
        found=f"the first weights taken off, which anybody can draw from the seed, 99 % of the big layer lies in "
        f"directions that are mixtures of {cases} training cases' {big.shape[1]:,} visual features: {rank} of them",
        limit="no more visual features than training cases, or record-level privacy",
    )


def _training_cases(state: StudyState) -> int:
    return sum(sum(reply.training_cases) for reply in state.qualified.values())


def _lists(value: Any, place: str) -> Iterator[tuple[str, int]]:
    """Every list of numbers and its length."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lists(inner, f"{place}.{key}")
    elif isinstance(value, list | tuple | np.ndarray):
        if len(value) and all(isinstance(inner, int | float | np.number) for inner in value):
            yield place, len(value)
        else:
            for inner in value:
                yield from _lists(inner, place)


CHECKS: dict[str, Callable[[StudyState], Check]] = {
    "degrees-of-freedom": _freedom,
    "small-groups": _small_groups,
    "case-values": _case_values,
    "class-disclosure": _class_disclosure,
    "k-anonymity": _k_anonymity,
    "generalisation-gap": _generalisation,
    "memorised-cases": _memorised,
}
"""By name, as `--accept` takes them."""
