"""adjusted_roc: how well a score tells cases apart that have the same age (Janes and Pepe 2009, doi
10.1093/biomet/asp002): the covariate-adjusted ROC curve, by the semiparametric estimator (AROC.sp of R's ROCnReg).

    margin = a + b' covariates + residual       least squares over the cases that are not altered, of all sites
    adjusted ROC = the ROC curve of the residuals

A case is compared with cases that are not altered at its own age: its residual's place among theirs is its placement
value.  So residuals go through `score_cells`, `roc_cells` and the rest like any margins.

    site     n, c'c, c'm of its cases that are not altered          (additive; c: 1 and the covariates)
    server   solves for a and b
    site     residuals of its cases

Law: equal to the pooled fit to 1e-9 for any partition; a site with altered cases only takes part.
Limits: b is taken as known by an interval of the residuals' AUC; altered cases of an age that no other case has (below
18 here) are compared by the line drawn further.  `weighted_roc` with overlap weights leaves such cases out instead.
Disclosure: (q + 1)(q + 2) + 1 numbers over at least `min_cases` cases that are not altered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.arrays import CaseFlags, CaseScores
from common.errors import InputError, Refused
from common.metrics.confusion import require_finite_scores

__all__ = ["ControlLine", "ControlSums", "combine", "finish", "fit_sites", "residuals", "summarise"]

Floats = np.ndarray[Any, np.dtype[np.float64]]
SMALLEST = 1e-10
"""Smallest eigenvalue of the products scaled to a unit diagonal."""
EXPLAINED = 1e-12
"""Share of the margins' squares below which nothing but rounding is left."""


@dataclass(frozen=True)
class ControlSums:
    """Of cases that are not altered: cases; products: (1 + q, 1 + q); margins: (1 + q); squares: of margins."""

    cases: int
    products: Floats
    margins: Floats
    squares: float


@dataclass(frozen=True)
class ControlLine:
    """coefficients: (1 + q,) intercept first; cases: it was fitted on."""

    coefficients: Floats
    cases: int


def summarise(margins: CaseScores, altered: CaseFlags, covariates: Floats) -> ControlSums:
    """Runs in the hospital; covariates: (cases, q).  InputError `score-not-finite`, `covariate-not-finite`."""
    require_finite_scores(margins, altered)
    design, values = _design(covariates)[~altered], np.asarray(margins, np.float64)[~altered]
    return ControlSums(len(values), design.T @ design, design.T @ values, float(values @ values))


def combine(parts: Sequence[ControlSums]) -> ControlSums:
    """Runs on the server; adds in the order given, which callers fix by site name."""
    return ControlSums(
        sum(part.cases for part in parts),
        np.sum([part.products for part in parts], axis=0),
        np.sum([part.margins for part in parts], axis=0),
        float(np.sum([part.squares for part in parts])),
    )


def finish(sums: ControlSums) -> ControlLine:
    """Runs on the server.

    Refused `too-few-controls`, `covariate-collinear`, and `score-is-covariate` where nothing is left of the score.
    """
    if sums.cases <= len(sums.margins):
        raise _refusal(
            "too-few-controls",
            f"{sums.cases} cases that are not altered do not determine {len(sums.margins)} coefficients",
            "Adjust for fewer covariates, or on more cases.",
        )
    size = np.sqrt(np.diag(sums.products))
    correlation = sums.products / np.outer(np.maximum(size, 1e-300), np.maximum(size, 1e-300))
    if (size == 0).any() or np.linalg.eigvalsh(correlation)[0] < SMALLEST:
        raise _refusal(
            "covariate-collinear",
            "Covariates are constant or repeat each other among the cases that are not altered",
            "Leave one out; centre covariates with large offsets.",
        )
    coefficients = np.linalg.solve(correlation, sums.margins / size) / size
    left = sums.squares - float(coefficients @ sums.margins)
    if left <= EXPLAINED * sums.squares:
        raise _refusal(
            "score-is-covariate",
            "The score is a function of the covariates, so nothing is left of it at the same covariates",
            "Adjust another score; of this one the adjusted AUC is 0.5.",
        )
    return ControlLine(coefficients, sums.cases)


def residuals(line: ControlLine, margins: CaseScores, covariates: Floats) -> CaseScores:
    """Runs in the hospital: adjusted margins of any cases; low still means altered."""
    return np.asarray(np.asarray(margins, np.float64) - _design(covariates) @ line.coefficients)


def fit_sites(parts: Sequence[tuple[CaseScores, CaseFlags, Floats]]) -> ControlLine:
    """Both halves over (margins, altered, covariates) of each site, where one process holds them."""
    return finish(combine([summarise(*part) for part in parts]))


def _design(covariates: Floats) -> Floats:
    if not np.isfinite(covariates).all():
        raise InputError(
            "covariate-not-finite",
            field=f"{int((~np.isfinite(covariates)).any(axis=1).sum())} case(s)",
            problem="Covariates are NaN or infinite.",
            fix="Complete them, or exclude the cases by name.",
        )
    return np.column_stack([np.ones(len(covariates)), covariates])


def _refusal(code: str, problem: str, fix: str) -> Refused:
    return Refused(code, field="covariates", problem=f"{problem}.", fix=fix)
