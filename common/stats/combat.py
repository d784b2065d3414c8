"""combat: ComBat harmonisation over hospitals, in one exchange of sums (Johnson et al. 2007, doi
10.1093/biostatistics/kxj037; Fortin et al. 2018, doi 10.1016/j.neuroimage.2017.11.024).

    y = alpha + beta' c + sd * (gamma_batch + delta_batch * e)        per feature; c: covariates

A least-squares fit with a term per batch needs only cross-products about each batch's own mean (Frisch and
Waugh 1933), which every hospital takes by itself:

    site     W = sum over batches of centred cross-products; n, sum y, sum c       (additive)
    server   beta = Wcc^-1 Wcy;  alpha = (sum y - beta' sum c) / n;  sd^2 = residual sum / n
    site     gamma, delta of its own scanners, shrunk by empirical Bayes; they stay there

So no scanner's mean leaves a site.  A scanner that several sites use has one more exchange: its pooled sums.

Law: equal to neuroCombat 0.2.12 on pooled data to 1e-10 of a feature's deviation, for any partition.
Beyond neuroCombat: constant features pass unchanged and stay out of the priors; batches of 1 to 4 cases move by a
shrunken mean (docs/decisions/0005-small-batches.md); a new scanner is fitted later without touching the others.
Disclosure: sums over at least `min_cases` cases of p (2 + q) + q^2 numbers; for a shared scanner its mean and
scale; a reference batch gives away its own location and scale by definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.config.harmonisation import HarmonisationSettings
from common.errors import Refused
from common.stats.empirical_bayes import Shift, fit_shift
from common.tables import TrainingTable, require_training

__all__ = [
    "BatchDesign",
    "BatchSums",
    "CrossProducts",
    "Location",
    "apply_shifts",
    "combine_batch_sums",
    "combine_cross_products",
    "fit_location",
    "fit_new_batch",
    "fit_own_batches",
    "fit_shared_batches",
    "summarise_batches",
    "summarise_cross_products",
]

CONSTANT = 1e-12
"""A feature whose residual deviation is below this part of its size is constant."""
WORST_CONDITION = 1e10

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class BatchDesign:
    """batch: a name for each case; covariates: (cases, q), each in its own unit, `names` of the columns."""

    batch: tuple[str, ...]
    covariates: Array
    names: tuple[str, ...] = ()

    def rows(self, batch: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which cases belong to `batch`."""
        return np.array([b == batch for b in self.batch], dtype=bool)

    def take(self, cases: np.ndarray[Any, np.dtype[np.bool_]]) -> BatchDesign:
        """Of some of the cases."""
        batch = tuple(b for b, wanted in zip(self.batch, cases, strict=True) if wanted)
        return BatchDesign(batch, self.covariates[cases], self.names)


@dataclass(frozen=True)
class BatchSums:
    """Of batches that several sites share, one row each: cases, sum of features, sum of covariates."""

    cases: Array
    features: Array
    covariates: Array


@dataclass(frozen=True)
class CrossProducts:
    """cases: n; features, covariates: sums (p), (q); cc (q, q), cy (q, p), yy (p): centred within batches."""

    cases: float
    features: Array
    covariates: Array
    cc: Array
    cy: Array
    yy: Array


@dataclass(frozen=True)
class Location:
    """alpha (p), beta (q, p), variance (p): the model all sites share; varies (p): False where a feature is
    constant and passes unchanged.
    """

    alpha: Array
    beta: Array
    variance: Array
    varies: np.ndarray[Any, np.dtype[np.bool_]]

    def standardise(self, values: Array, covariates: Array) -> Array:
        """Residuals in units of the residual deviation."""
        return np.asarray((values - self.alpha - covariates @ self.beta) / np.sqrt(self.variance))


def summarise_batches(table: TrainingTable, design: BatchDesign, batches: Sequence[str]) -> BatchSums:
    """Runs in the hospital, only for batches that it shares with others."""
    require_training(table)
    members = np.array([design.rows(b) for b in batches], dtype=float).reshape(len(batches), len(table))
    return BatchSums(members.sum(axis=1), members @ table.values, members @ design.covariates)


def summarise_cross_products(
    table: TrainingTable, design: BatchDesign, shared: Mapping[str, tuple[Array, Array]]
) -> dict[str, CrossProducts]:
    """Runs in the hospital.

    shared: pooled (mean of features, mean of covariates) of every batch that several sites use.
    Returns the cross-products of each batch by name.  Only their sum over a site's own batches leaves it;
    those of shared and reference batches are told apart.
    """
    require_training(table)
    found = {}
    for batch in sorted(set(design.batch)):
        rows = design.rows(batch)
        y, c = table.values[rows], design.covariates[rows]
        middle = shared.get(batch, (y.mean(axis=0), c.mean(axis=0)))
        dy, dc = y - middle[0], c - middle[1]
        found[batch] = CrossProducts(
            float(len(y)), y.sum(axis=0), c.sum(axis=0), dc.T @ dc, dc.T @ dy, np.einsum("ij,ij->j", dy, dy)
        )
    return found


def combine_batch_sums(parts: Sequence[BatchSums]) -> BatchSums:
    """Runs on the server; adds in the order given."""
    return BatchSums(
        np.sum([p.cases for p in parts], axis=0),
        np.sum([p.features for p in parts], axis=0),
        np.sum([p.covariates for p in parts], axis=0),
    )


def combine_cross_products(parts: Sequence[CrossProducts]) -> CrossProducts:
    """Adds in the order given, which callers fix by name."""
    return CrossProducts(
        sum(p.cases for p in parts),
        *(np.sum([getattr(p, field) for p in parts], axis=0) for field in ("features", "covariates", "cc", "cy", "yy")),
    )


def fit_location(
    total: CrossProducts, names: tuple[str, ...] = (), *, reference: CrossProducts | None = None
) -> Location:
    """Runs on the server.  `reference`: of the reference batch, whose location and scale then rule.

    Refused `covariate-constant` or `covariate-confounded` names the covariate that cannot be told from batches.
    """
    beta = _coefficients(total, names)
    basis = reference or total
    alpha = (basis.features - basis.covariates @ beta) / basis.cases
    variance = np.maximum(_residual(basis, beta) / basis.cases, 0)
    size = np.abs(alpha) + np.sqrt(total.yy / total.cases)
    varies = np.sqrt(variance) > CONSTANT * np.maximum(size, 1e-300)
    return Location(alpha, beta, np.where(varies, variance, 1.0), varies)


def fit_own_batches(
    table: TrainingTable,
    design: BatchDesign,
    location: Location,
    settings: HarmonisationSettings,
    shared: Mapping[str, Shift],
) -> dict[str, Shift]:
    """Runs in the hospital: the shifts of its own scanners, from training cases only; those of shared batches
    are given.  The reference batch is not moved.
    """
    require_training(table)
    shifts = dict(shared)
    for batch in sorted(set(design.batch) - set(shared)):
        if batch == settings.reference_batch:
            continue
        rows = design.rows(batch)
        shifts[batch] = fit_new_batch(table.values[rows], design.covariates[rows], location, settings)
    return shifts


def fit_new_batch(values: Array, covariates: Array, location: Location, settings: HarmonisationSettings) -> Shift:
    """The shift of one batch from its cases, without labels and without touching any other batch.

    What a scanner that joins later runs on its calibration cases: at least ten, of both classes in the mix the
    site sees; never the cases it will be judged on.  Where that mix differs from the study's, the shift moves the
    threshold, not the ranking (notes: sensitivity .92 -> .78 at 80 % positive).
    """
    residuals = location.standardise(values, covariates)
    n = len(residuals)
    variance = residuals.var(axis=0, ddof=1) if n > 1 else np.ones(residuals.shape[1])
    return fit_shift(n, residuals.mean(axis=0), variance, location.varies, settings)


def fit_shared_batches(
    sums: BatchSums,
    products: Sequence[CrossProducts],
    location: Location,
    settings: HarmonisationSettings,
) -> list[Shift]:
    """Runs on the server: shifts of batches that several sites share, from their pooled sums."""
    shifts = []
    for i, product in enumerate(products):
        n = float(sums.cases[i])
        mean = location.standardise(sums.features[i] / n, sums.covariates[i] / n)
        variance = _residual(product, location.beta) / location.variance / max(n - 1, 1)
        variance = variance if n > 1 else np.ones_like(mean)
        shifts.append(fit_shift(int(n), mean, np.maximum(variance, 0), location.varies, settings))
    return shifts


def apply_shifts(values: Array, design: BatchDesign, location: Location, shifts: Mapping[str, Shift]) -> Array:
    """Harmonised (cases, p) values, training and test alike.

    A case of a batch without a shift (the reference, or a scanner without training cases) keeps its values.
    """
    out = np.array(values, dtype=float)
    for batch in sorted(set(design.batch) & set(shifts)):
        rows, shift = design.rows(batch), shifts[batch]
        residuals = location.standardise(values[rows], design.covariates[rows])
        expected = location.alpha + design.covariates[rows] @ location.beta
        moved = (residuals - shift.gamma) / np.sqrt(shift.delta) * np.sqrt(location.variance) + expected
        out[rows] = np.where(location.varies, moved, values[rows])
    return out


def _coefficients(total: CrossProducts, names: tuple[str, ...]) -> Array:
    """Coefficients (q, p), solved on the correlation scale."""
    q = len(total.covariates)
    if q == 0:
        return np.zeros((0, len(total.features)))
    scale = np.sqrt(np.diag(total.cc))
    labels = names or tuple(f"covariate {i + 1}" for i in range(q))
    noise = CONSTANT * np.maximum(np.abs(total.covariates), np.sqrt(total.cases))
    constant = [label for label, s, least in zip(labels, scale, noise, strict=True) if s <= least]
    if constant:
        raise _refusal("covariate-constant", constant, "does not vary inside any batch, so it cannot be kept")
    correlation = total.cc / np.outer(scale, scale)
    if np.linalg.cond(correlation) > WORST_CONDITION:
        raise _refusal("covariate-confounded", labels, "can be told from one another inside no batch")
    solved: Array = np.linalg.solve(correlation, total.cy / scale[:, None]) / scale[:, None]
    return solved


def _residual(product: CrossProducts, beta: Array) -> Array:
    """Residual sum of squares per feature."""
    return np.asarray(
        product.yy - 2 * (beta * product.cy).sum(axis=0) + np.einsum("ip,ij,jp->p", beta, product.cc, beta)
    )


def _refusal(code: str, names: Sequence[str], what: str) -> Refused:
    return Refused(
        code,
        field="harmonisation.covariates",
        problem=f"{' and '.join(names)} {what}.",
        fix="Take it out of the protocol's covariates, or pool more cases.",
    )
