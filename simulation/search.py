"""search: hyper-parameters by federated cross-validation inside the training set.

Each site deals its own training cases, by class, into folds; for every fold the federation sums its statistics,
selects and trains on the other folds of all sites, and scores the fold at its sites.  A fold is a TestTable while it
is scored, so nothing can be fitted on it; the study's own test cases are not an argument of anything here.

Chosen is the setting with the highest mean AUC over the folds, ties by the lower mean log loss, then by the grid's
order.  Its AUC is the best of many and hence too good; the study's test cases are for the honest one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import ValidationError

from client.store.cohort import SiteCohort, TestCases, TrainingCases
from client.training.score import safety_margins
from common.config.protocol import Protocol
from common.errors import ConfigError, Refused
from common.metrics.roc import auc
from common.seeds import stream
from common.tables import require_training, split_table
from simulation.federated_training import federated_training
from simulation.journal import Journal
from simulation.replica import first_model, some_cases

__all__ = ["Found", "Setting", "deal_folds", "search", "settings_of"]

PARTS = ("training", "selection", "head")
"""Of the protocol: what may be searched without preparing the cases anew."""

Setting = tuple[tuple[str, float | int | str], ...]
Harmonise = Callable[[SiteCohort], SiteCohort]


@dataclass(frozen=True)
class Found:
    """auc, log_loss: of each fold's cases, all sites together."""

    setting: Setting
    auc: tuple[float, ...]
    log_loss: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the folds."""
        return float(np.mean(self.auc))


def settings_of(protocol: Protocol, grid: Mapping[str, Sequence[float | int | str]]) -> dict[Setting, Protocol]:
    """Every combination and the protocol that it makes, in the grid's order; ConfigError names all that is wrong."""
    faults = [name for name in grid if name.partition(".")[0] not in PARTS]
    if faults or not grid:
        raise _fault(", ".join(faults) or "grid", f"Only settings of {', '.join(PARTS)} can be searched.")
    made: dict[Setting, Protocol] = {}
    for values in itertools.product(*grid.values()):
        setting = tuple(zip(grid, values, strict=True))
        plain = protocol.model_dump(mode="json")
        for name, value in setting:
            part, _, field = name.partition(".")
            plain[part][field] = value
        try:
            made[setting] = Protocol.model_validate(plain)
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise _fault(", ".join(f"{n}={v}" for n, v in setting), f"This is no protocol: {told}.") from None
    return made


def deal_folds(altered: Sequence[bool], owners: Sequence[str], folds: int, *, seed: int) -> np.ndarray[Any, Any]:
    """Fold of every case, as each site deals its own by the stream (seed, site, "folds"): classes alike, sizes alike.

    Refused `too-few-cases-to-search` where a site has fewer cases of a class than folds, and some fold would leave it
    without.
    """
    places = np.empty(len(altered), dtype=int)
    for site in sorted(set(owners)):
        rng, begin = stream(seed, site, "folds"), 0
        for label in (True, False):
            mine = [i for i, (a, o) in enumerate(zip(altered, owners, strict=True)) if o == site and a == label]
            if len(mine) < folds:
                raise Refused(
                    "too-few-cases-to-search",
                    site=site,
                    field="folds",
                    problem=f"The site has fewer than {folds} training cases of a class.",
                    fix="Take fewer folds, or fewer and larger sites.",
                )
            # The second class goes on where the first ended, so that folds differ by one case at most.
            places[rng.permutation(mine)] = (begin + np.arange(len(mine))) % folds
            begin += len(mine)
    return places


def search(
    cases: TrainingCases,
    owners: Sequence[str],
    protocol: Protocol,
    grid: Mapping[str, Sequence[float | int | str]],
    *,
    folds: int = 5,
    harmonise: Harmonise = lambda cohort: cohort,
    journal: Journal | None = None,
    progress: Callable[[int, str], None] = lambda _fold, _setting: None,
) -> tuple[list[Found], Setting]:
    """Every setting of the grid, and the chosen one.

    cases: of all sites, as they were extracted; owners: who holds each; harmonise: makes the fitted and the scored
    cases of a fold alike, learning from the fitted ones only.
    """
    require_training(cases.table)
    protocols, journal = settings_of(protocol, grid), journal or Journal()
    held_by = np.array(owners)
    places = deal_folds(cases.table.altered.tolist(), owners, folds, seed=protocol.seed)
    told = dict(zip(cases.pseudonyms, owners, strict=True))
    found: dict[Setting, list[dict[str, float]]] = {setting: [] for setting in protocols}
    for fold in range(folds):
        fitted: dict[str, TrainingCases] = {}
        scored: TestCases | None = None
        for setting, tried in protocols.items():
            progress(fold, ", ".join(f"{name.partition('.')[2]} {value}" for name, value in setting))
            key = [version("fedmidline"), tried.fingerprint(), folds, sorted(told.items())]
            line = journal.find("search", fold, key)
            if line is None:
                if scored is None:
                    fitted, scored = _part(cases, held_by, places == fold, harmonise)
                line = journal.write("search", fold, key, _try(fitted, scored, tried))
            found[setting].append(line)
    rows = [
        Found(setting, tuple(n["auc"] for n in lines), tuple(n["log_loss"] for n in lines))
        for setting, lines in found.items()
    ]
    best = min(rows, key=lambda row: (-row.mean, float(np.mean(row.log_loss))))
    return rows, best.setting


def _part(
    cases: TrainingCases, owners: np.ndarray[Any, Any], held: np.ndarray[Any, Any], harmonise: Harmonise
) -> tuple[dict[str, TrainingCases], TestCases]:
    """What is fitted, by site, and the fold."""
    fit, fold = split_table(cases.table, held)
    inside, outside = np.flatnonzero(~held), np.flatnonzero(held)
    names = np.array(cases.pseudonyms)
    cohort = harmonise(
        SiteCohort(
            TrainingCases(fit, cases.visual.take(inside.tolist()), tuple(names[inside])),
            TestCases(fold, cases.visual.take(outside.tolist()), tuple(names[outside])),
        )
    )
    mine = owners[inside]
    return {
        name: some_cases(cohort.training, np.flatnonzero(mine == name)) for name in sorted(set(owners))
    }, cohort.test


def _try(fitted: Mapping[str, TrainingCases], scored: TestCases, protocol: Protocol) -> dict[str, float]:
    start = first_model([cases for _, cases in sorted(fitted.items())], protocol)
    model = federated_training(fitted, start, protocol).model
    margins = safety_margins(scored.table, scored.visual, model, head=protocol.head, device="cpu")
    towards = np.where(scored.table.altered, margins, -margins)
    return {"auc": auc(margins, scored.table.altered), "log_loss": float(np.logaddexp(0, towards).mean())}


def _fault(field: str, problem: str) -> ConfigError:
    return ConfigError(
        "grid-impossible",
        field=field[:120],
        problem=problem,
        fix="Write for example training.learning_rate=0.03,0.1 or selection.k=10,19.",
    )
