"""glcm: how often grey level i lies beside grey level j (Haralick 1973), one matrix per direction.

p(i, j): the matrix of a direction, made symmetrical and summing to 1; every feature is the mean over
directions.  px, py: marginals; mu, nu their means, s, t their deviations; p+(k): sum of p over i + j = k;
p-(k): over |i - j| = k; H, HX, HY: entropies of p, px, py; Ng: the highest grey level; e: 2.2e-16.

    Autocorrelation sum p i j                     JointAverage mu                 SumSquares sum p (i - mu)^2
    Cluster{Tendency, Shade, Prominence} sum p (i + j - mu - nu)^{2, 3, 4}        Contrast sum p (i - j)^2
    Correlation sum p (i - mu)(j - nu) / (s t)    (1 for a constant region)
    JointEnergy sum p^2      JointEntropy H       MaximumProbability max p
    Difference{Average, Entropy}, Sum{Average, Entropy}: mean and entropy of p-, p+; DifferenceVariance
    Id sum p- / (1 + k)      Idn sum p- / (1 + k / Ng)      Idm sum p- / (1 + k^2)      Idmn sum p- / (1 + k^2 / Ng^2)
    InverseVariance sum_{k > 0} p- / k^2
    Imc1 (H - HXY1) / max(HX, HY), HXY1 = - sum p log2(px py)
    Imc2 sqrt(1 - exp(-2 (HXY2 - H))), HXY2 = - sum px py log2(px py)
    MCC  sqrt of the second eigenvalue of Q(i, j) = sum_k p(i, k) p(j, k) / (px(i) py(k))     (1 for one level)

Source: PyRadiomics 3.0.1; IBSI 1, section 3.6 (merging method: mean over directions).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.features.engine.first_order import EPSILON
from client.features.engine.grey_levels import GreyLevels
from client.features.engine.region import Region
from client.features.engine.settings import EngineSettings

__all__ = ["GLCM", "Glcm", "weigh_angles"]

Matrix = NDArray[np.float64]

DOUBTFUL = 1e-10
"""An information or an eigenvalue below this may be the rounding of zero."""


class Glcm:
    """Normalised matrices with what several features share; angles without a pair are left out.

    pairs: from `look_around`.
    """

    def __init__(self, pairs: Matrix, levels: GreyLevels, region: Region, settings: EngineSettings) -> None:
        if settings.symmetrical:
            pairs = pairs + pairs.transpose(0, 2, 1)
        if settings.weighting is not None:
            angles = region.angles[: len(region.angles) // 2]
            weights = np.exp(-(weigh_angles(angles, region.spacing, settings.weighting) ** 2))
            weights = np.ones(len(angles)) if settings.weighting == "no_weighting" else weights
            pairs = np.sum(np.ascontiguousarray(pairs.transpose(1, 2, 0)) * weights, axis=2)[None]  # its order, too
        total = pairs.sum(axis=(1, 2))
        self.p: Matrix = pairs[total > 0] / total[total > 0, None, None]
        self.highest = levels.highest
        self.i = levels.values.astype(np.float64)[:, None]
        self.j = self.i.T
        self.flat_region = len(levels) < 2

    def sum(self, terms: Matrix) -> Matrix:
        """Sum over i and j."""
        return np.asarray(terms.sum(axis=(1, 2)))

    @cached_property
    def px(self) -> Matrix:
        """(angles, i, 1)."""
        return self.p.sum(axis=2, keepdims=True)

    @cached_property
    def py(self) -> Matrix:
        """(angles, 1, j)."""
        return self.p.sum(axis=1, keepdims=True)

    @cached_property
    def from_mean(self) -> tuple[Matrix, Matrix]:
        """I - mu and j - nu, (angles, i, 1) and (angles, 1, j)."""
        mu = (self.px * self.i).sum(axis=(1, 2), keepdims=True)
        nu = (self.py * self.j).sum(axis=(1, 2), keepdims=True)
        return self.i[None] - mu, self.j[None] - nu

    def cluster(self, power: int) -> Matrix:
        """Sum p (i + j - mu - nu)^power."""
        i, j = self.from_mean
        both = i + j
        square = both * both
        return self.sum(self.p * {2: square, 3: square * both, 4: square * square}[power])

    def correlation(self) -> Matrix:
        """Covariance over the deviations; 1 where a deviation is 0."""
        i, j = self.from_mean
        spread = np.sqrt(self.sum(self.px * i**2)) * np.sqrt(self.sum(self.py * j**2))
        covariance = self.sum(self.p * i * j)
        if (spread < DOUBTFUL).any():
            p, _, _ = self._in_its_order
            own, other = self.i[None, :, :, None], self.j[None, :, :, None]
            i = own - np.sum(own * p, (1, 2), keepdims=True)
            j = other - np.sum(other * p, (1, 2), keepdims=True)
            spread = (np.sum(p * i**2, (1, 2)) ** 0.5 * np.sum(p * j**2, (1, 2)) ** 0.5)[0]
            covariance = np.sum(p * i * j, (1, 2))[0]
        return np.where(spread == 0, 1.0, covariance / (spread + EPSILON))

    @cached_property
    def differences(self) -> Matrix:
        """p-(k) for k = 0 .. Ng - 1, (angles, k)."""
        return self._along(np.abs(self.i - self.j), self.highest)

    @cached_property
    def sums(self) -> Matrix:
        """p+(k) for k = 0 .. 2 Ng, (angles, k)."""
        return self._along(self.i + self.j, 2 * self.highest + 1)

    def _along(self, key: Matrix, length: int) -> Matrix:
        code = key.astype(np.intp)[None] + (np.arange(len(self.p)) * length)[:, None, None]
        found: NDArray[Any] = np.bincount(code.reshape(-1), weights=self.p.reshape(-1), minlength=len(self.p) * length)
        return found.reshape(len(self.p), length)

    @cached_property
    def k(self) -> Matrix:
        """0 .. Ng - 1."""
        return np.arange(self.highest, dtype=np.float64)

    @cached_property
    def entropy(self) -> Matrix:
        """H per angle."""
        return -self.sum(self.p * np.log2(self.p + EPSILON))

    @cached_property
    def log_independent(self) -> Matrix:
        """log2(px py)."""
        return np.log2(self.px * self.py + EPSILON)

    def imc1(self) -> Matrix:
        """Informational measure of correlation 1; 0 for a constant region."""
        hx, hy = (-self.sum(q * np.log2(q + EPSILON)) for q in (self.px, self.py))
        largest = np.fmax(hx, hy)
        gain = self.entropy + self.sum(self.p * self.log_independent)
        return np.divide(gain, largest, out=np.zeros_like(gain), where=largest != 0)

    def imc2(self) -> Matrix:
        """Informational measure of correlation 2; NaN where rounding makes the information negative."""
        information = -self.sum(self.px * self.py * self.log_independent) - self.entropy
        if (np.abs(information) < DOUBTFUL).any():
            p, px, py = self._in_its_order
            both = px * py
            information = -np.sum(both * np.log2(both + EPSILON), (1, 2)) + np.sum(p * np.log2(p + EPSILON), (1, 2))
            information = information[0]
        with np.errstate(invalid="ignore"):
            return np.where(information == 0, 0.0, np.sqrt(1 - np.e ** (-2 * information)))

    def mcc(self) -> Matrix:
        """Maximal correlation coefficient; the eigenvalues are those of the product of two Markov matrices."""
        if self.flat_region:
            return np.ones(1)
        weighted = self.p / (self.px * self.py + EPSILON)
        eigenvalues = np.linalg.eigvals(weighted @ self.p.transpose(0, 2, 1))
        eigenvalues.sort(axis=1)
        if np.iscomplexobj(eigenvalues) or (eigenvalues[:, -2] < DOUBTFUL).any():
            p, px, py = self._in_its_order
            q = np.zeros((1, p.shape[1], p.shape[1], p.shape[3]))
            for k in range(p.shape[1]):
                q += p[:, :, None, k] * p[:, None, :, k] / (px[:, :, None, 0] * py[:, None, :, k] + EPSILON)
            eigenvalues = np.linalg.eigvals(q.transpose(0, 3, 1, 2))[0]
            eigenvalues.sort(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt(eigenvalues[:, -2]).real)

    @cached_property
    def _in_its_order(self) -> tuple[Matrix, Matrix, Matrix]:
        """p, px, py laid out in memory as PyRadiomics has them, (1, i, j, angles) with j slowest, so that sums round alike.

        Where a direction has no correlation, the sign of a rounding error decides whether PyRadiomics takes it for
        zero or leaves it out of the mean.
        """
        p = np.ascontiguousarray(self.p.transpose(2, 1, 0)).transpose(1, 0, 2)[None]
        return p, p.sum(2, keepdims=True), p.sum(1, keepdims=True)


def _entropy(p: Matrix) -> Matrix:
    return np.asarray(-np.sum(p * np.log2(p + EPSILON), axis=1))


def _difference_variance(m: Glcm) -> Matrix:
    mean = m.differences @ m.k
    return np.asarray(np.sum(m.differences * (m.k - mean[:, None]) ** 2, axis=1))


GLCM: dict[str, Callable[[Glcm], Any]] = {
    "Autocorrelation": lambda m: m.sum(m.p * (m.i * m.j)),
    "ClusterProminence": lambda m: m.cluster(4),
    "ClusterShade": lambda m: m.cluster(3),
    "ClusterTendency": lambda m: m.cluster(2),
    "Contrast": lambda m: m.differences @ m.k**2,
    "Correlation": Glcm.correlation,
    "DifferenceAverage": lambda m: m.differences @ m.k,
    "DifferenceEntropy": lambda m: _entropy(m.differences),
    "DifferenceVariance": _difference_variance,
    "Id": lambda m: m.differences @ (1 / (1 + m.k)),
    "Idm": lambda m: m.differences @ (1 / (1 + m.k**2)),
    "Idmn": lambda m: m.differences @ (1 / (1 + m.k**2 / m.highest**2)),
    "Idn": lambda m: m.differences @ (1 / (1 + m.k / m.highest)),
    "Imc1": Glcm.imc1,
    "Imc2": Glcm.imc2,
    "InverseVariance": lambda m: m.differences[:, 1:] @ (1 / m.k[1:] ** 2),
    "JointAverage": lambda m: m.sum(m.px * m.i),
    "JointEnergy": lambda m: m.sum(m.p**2),
    "JointEntropy": lambda m: m.entropy,
    "MCC": Glcm.mcc,
    "MaximumProbability": lambda m: m.p.max(axis=(1, 2)),
    "SumAverage": lambda m: m.sums @ np.arange(m.sums.shape[1]),
    "SumEntropy": lambda m: _entropy(m.sums),
    "SumSquares": lambda m: m.sum(m.px * m.from_mean[0] ** 2),
}


def weigh_angles(angles: NDArray[Any], spacing: NDArray[np.float64], norm: str) -> NDArray[np.float64]:
    """Length of each direction's step in mm, in the norm `infinity`, `euclidean` or `manhattan`; else 1."""
    step = np.abs(angles) * spacing
    if norm == "infinity":
        return np.asarray(step.max(axis=1))
    if norm == "euclidean":
        return np.asarray(np.sqrt((step**2).sum(axis=1)))
    if norm == "manhattan":
        return np.asarray(step.sum(axis=1))
    return np.ones(len(angles))
