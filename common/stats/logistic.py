"""logistic: logistic regression of cases that nobody holds together, by exact Newton steps from sums.

    site      log-likelihood, gradient and information (Hessian) of its cases at the coefficients asked about
    server    adds them, takes a damped Newton step, asks again; 5-10 rounds of (d+1)(d+2) numbers

It is iteratively reweighted least squares, so the result is the maximum-likelihood (or ridge) fit of all cases,
not an average of sites' fits.  Models P(altered).  For the age-only and clinical comparators, covariate
adjustment (F10) and, through `metrics.calibration_line`, calibration.

Law: coefficients within 1e-7 of scikit-learn and statsmodels on the pooled table (measured 7e-13) for any
partition, any order of sites, a site split in two, a site of one case or of one class.  Needs sums only.
Disclosure: the gradient of a single case is its row times its residual.  Open the sum over sites, or a site's
only when it has at least `min_cases`; the door decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit, log_expit

from common.arrays import CaseFlags
from common.errors import InputError, Refused
from common.tables import FeatureTable, TrainingTable, require_training

__all__ = [
    "LogisticFit",
    "LogisticModel",
    "LogisticSums",
    "advance",
    "combine",
    "finish",
    "fit_tables",
    "start",
    "summarise",
    "summarise_design",
]

TOLERANCE = 1e-10
"""Largest change of a typical logit by a Newton step at which the search ends; the step is still taken."""
MAX_ROUNDS = 30
COLLINEAR = 1e-10
"""Smallest eigenvalue of the information scaled to a unit diagonal."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class LogisticSums:
    """At the coefficients asked about, summed over cases: gradient (1 + d,), information (1 + d, 1 + d)."""

    cases: int
    altered: int
    log_likelihood: float
    gradient: Floats
    information: Floats


@dataclass(frozen=True)
class LogisticFit:
    """A search in progress.

    names: columns; mean, deviation: every column enters as (x - mean) / deviation; ridge: lambda of
    lambda/2 |coefficients|^2 beside the summed loss, intercept free (scikit-learn's C = 1 / ridge);
    asked: (1 + d,) coefficients to evaluate next, intercept first;
    accepted, sums: the best so far; unit: how far one unit of a coefficient moves a typical logit; rounds:
    exchanges done.
    """

    names: tuple[str, ...]
    mean: Floats
    deviation: Floats
    ridge: float
    asked: Floats
    accepted: Floats
    sums: LogisticSums | None = None
    unit: Floats | None = None
    rounds: int = 0
    converged: bool = False


@dataclass(frozen=True)
class LogisticModel:
    """coefficients: intercept first, then one per name, per unit of the column; covariance: theirs (with ridge
    the sandwich of penalised and plain information); log_likelihood: without the penalty.
    """

    names: tuple[str, ...]
    coefficients: Floats
    covariance: Floats
    log_likelihood: float
    cases: int
    altered: int
    ridge: float
    rounds: int

    @property
    def errors(self) -> Floats:
        """Standard errors, intercept first."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def p_values(self) -> Floats:
        """Two-sided Wald tests, intercept first."""
        return np.asarray(2 * stats.norm.sf(np.abs(self.coefficients / self.errors)))

    def margins(self, table: FeatureTable) -> Floats:
        """Logit of the safety score of each case: minus the logit of P(altered)."""
        return np.asarray(-self.coefficients[0] - _columns(table, self.names) @ self.coefficients[1:])


def start(
    names: Sequence[str],
    *,
    ridge: float = 0.0,
    mean: Floats | None = None,
    deviation: Floats | None = None,
) -> LogisticFit:
    """A search from zero.

    mean, deviation: of the training cases (`stats.moments`), to standardise; the ridge then acts on standardised
    coefficients.  Without them columns enter as they are.
    """
    if not (np.isfinite(ridge) and ridge >= 0):
        raise InputError(
            "ridge-negative", field="ridge", problem="A ridge must be 0 or more.", fix="Give 0 for none, or 1."
        )
    d = len(names)
    zero = np.zeros(1 + d)
    mean = np.zeros(d) if mean is None else np.asarray(mean, np.float64)
    deviation = np.ones(d) if deviation is None else np.asarray(deviation, np.float64)
    if (deviation <= 0).any():
        raise ValueError("deviations must be above 0; a constant column has 1")
    return LogisticFit(tuple(names), mean, deviation, ridge, asked=zero, accepted=zero)


def summarise(table: TrainingTable, fit: LogisticFit) -> LogisticSums:
    """Runs in the hospital.  Columns are found by name, in whatever order the site keeps them.

    InputError `feature-missing`, `feature-not-finite`.
    """
    require_training(table)
    return summarise_design(_columns(table, fit.names), table.altered, fit)


def summarise_design(values: Floats, altered: CaseFlags, fit: LogisticFit) -> LogisticSums:
    """As `summarise` for (cases, d) columns in the fit's order."""
    broken = [name for name, column in zip(fit.names, values.T, strict=True) if not np.isfinite(column).all()]
    if broken:
        raise InputError(
            "feature-not-finite",
            field=", ".join(broken),
            problem="Columns of the model are NaN or infinite in some cases.",
            fix="Complete the values, or exclude the cases by name.",
        )
    design = np.column_stack([np.ones(len(values)), (values - fit.mean) / fit.deviation])
    logits = design @ fit.asked
    share = expit(logits)
    weighted = design * (share * expit(-logits))[:, None]
    return LogisticSums(
        cases=len(altered),
        altered=int(altered.sum()),
        log_likelihood=float(log_expit(np.where(altered, logits, -logits)).sum()),
        gradient=design.T @ np.where(altered, expit(-logits), -share),
        information=weighted.T @ design,
    )


def combine(parts: Sequence[LogisticSums]) -> LogisticSums:
    """Runs on the server; adds in the order given, which callers fix by site name."""
    return LogisticSums(
        sum(part.cases for part in parts),
        sum(part.altered for part in parts),
        float(np.sum([part.log_likelihood for part in parts])),
        np.sum([part.gradient for part in parts], axis=0),
        np.sum([part.information for part in parts], axis=0),
    )


def advance(fit: LogisticFit, sums: LogisticSums) -> LogisticFit:
    """Runs on the server: one damped Newton step from the summed answers.

    Refused `one-class-only`, `collinear-columns`, `separated-classes`, `logistic-not-converged`, each with a cure.
    """
    _require_two_classes(sums)
    if _overshot(fit, sums):
        _require_rounds(fit, float(np.abs(fit.asked - fit.accepted).max()))
        return replace(fit, asked=(fit.asked + fit.accepted) / 2, rounds=fit.rounds + 1)
    step = _newton_step(fit, sums)
    unit = _unit(sums) if fit.unit is None else fit.unit
    reach = float(np.abs(step * unit).max())
    converged = reach <= TOLERANCE * max(1.0, float(np.abs(fit.asked * unit).max()))
    if not converged:
        _require_overlap(fit, sums)
        _require_rounds(fit, reach)
    return replace(
        fit,
        accepted=fit.asked,
        asked=fit.asked + step,
        sums=sums,
        unit=unit,
        rounds=fit.rounds + 1,
        converged=converged,
    )


def finish(fit: LogisticFit) -> LogisticModel:
    """Coefficients and errors per unit of each column."""
    if fit.sums is None or not fit.converged:
        raise ValueError("the search has not converged; advance it first")
    inverse = np.linalg.inv(fit.sums.information + np.diag(_penalty(fit)))
    covariance = inverse @ fit.sums.information @ inverse if fit.ridge else inverse
    # Back to each column's own unit: b = b' / deviation, intercept = a' - sum b' mean / deviation.
    turn = np.diag(np.concatenate([[1.0], 1 / fit.deviation]))
    turn[0, 1:] = -fit.mean / fit.deviation
    return LogisticModel(
        names=fit.names,
        coefficients=turn @ fit.asked,
        covariance=turn @ covariance @ turn.T,
        log_likelihood=fit.sums.log_likelihood,
        cases=fit.sums.cases,
        altered=fit.sums.altered,
        ridge=fit.ridge,
        rounds=fit.rounds,
    )


def fit_tables(tables: Sequence[TrainingTable], fit: LogisticFit) -> LogisticModel:
    """All rounds at once, where one process holds every site's table (notebook, simulation, one hospital)."""
    while not fit.converged:
        fit = advance(fit, combine([summarise(table, fit) for table in tables]))
    return finish(fit)


def _columns(table: FeatureTable, names: tuple[str, ...]) -> Floats:
    missing = [name for name in names if name not in table.names]
    if missing:
        raise InputError(
            "feature-missing",
            field=", ".join(missing),
            problem="The table lacks columns of the model.",
            fix="Add the columns, or leave them out of the model at every site.",
        )
    return np.asarray(table.columns(names).values, np.float64)


def _penalty(fit: LogisticFit) -> Floats:
    return np.concatenate([[0.0], np.full(len(fit.names), fit.ridge)])


def _value(fit: LogisticFit, coefficients: Floats, sums: LogisticSums) -> float:
    """Penalised log-likelihood, which every accepted step raises."""
    return sums.log_likelihood - float(_penalty(fit) @ coefficients**2) / 2


def _overshot(fit: LogisticFit, sums: LogisticSums) -> bool:
    """Whether the step lost likelihood, by more than rounding can."""
    if fit.sums is None:
        return False
    before = _value(fit, fit.accepted, fit.sums)
    return _value(fit, fit.asked, sums) < before - 1e-9 * (1 + abs(before))


def _unit(sums: LogisticSums) -> Floats:
    """How far one unit of each coefficient moves a typical logit, from the first round's equal weights."""
    return np.asarray(np.sqrt(np.diag(sums.information) / sums.information[0, 0]))


def _newton_step(fit: LogisticFit, sums: LogisticSums) -> Floats:
    """Solved with a unit diagonal, so that units of the columns do not matter."""
    information = sums.information + np.diag(_penalty(fit))
    gradient = sums.gradient - _penalty(fit) * fit.asked
    size = np.sqrt(np.diag(information))
    _require_independent(fit, information, size)
    return np.asarray(np.linalg.solve(information / np.outer(size, size), gradient / size) / size)


def _require_two_classes(sums: LogisticSums) -> None:
    if not 0 < sums.altered < sums.cases:
        raise Refused(
            "one-class-only",
            field="label",
            problem="All cases of all sites have the same label.",
            fix="Fit on cases of both classes.",
        )


def _require_independent(fit: LogisticFit, information: Floats, size: Floats) -> None:
    words = ("intercept", *fit.names)
    if (size == 0).any() and fit.rounds == 0:
        _refuse_collinear([word for word, s in zip(words, size, strict=True) if s == 0])
    if (size == 0).any():
        _refuse_separated()
    values, vectors = np.linalg.eigh(information / np.outer(size, size))
    if values[0] > COLLINEAR:
        return
    if fit.rounds > 0:
        _refuse_separated()
    share = np.abs(vectors[:, 0])
    _refuse_collinear([word for word, part in zip(words, share, strict=True) if part > 0.1 * share.max()])


def _require_overlap(fit: LogisticFit, sums: LogisticSums) -> None:
    """Below log 2 of loss in all, every single case is on its side: the classes are separated, certainly."""
    if not fit.ridge and -sums.log_likelihood < np.log(2):
        _refuse_separated()


def _require_rounds(fit: LogisticFit, reach: float) -> None:
    if fit.rounds + 1 < MAX_ROUNDS:
        return
    if reach > 1e-3 and not fit.ridge:
        _refuse_separated()
    raise Refused(
        "logistic-not-converged",
        field="coefficients",
        problem=f"The search did not settle in {MAX_ROUNDS} rounds.",
        fix="Standardise the columns, or use a ridge.",
    )


def _refuse_collinear(names: list[str]) -> None:
    raise Refused(
        "collinear-columns",
        field=", ".join(names),
        problem="These columns are constant or repeat each other, so their coefficients cannot be told apart.",
        fix="Leave one of them out, standardise columns with large offsets, or use a ridge (1.0).",
    )


def _refuse_separated() -> None:
    raise Refused(
        "separated-classes",
        field="coefficients",
        problem="A combination of the columns separates the classes, at least in part: coefficients grow without end.",
        fix="Use a ridge (1.0), fewer columns, or more cases.",
    )
