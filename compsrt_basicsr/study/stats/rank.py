"""Spearman's rank correlation, plain and partial, with bootstrap intervals.

SciPy has the plain coefficient but not the partial one; the plain one is the partial one with nothing given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compsrt_basicsr.study.stats.vectors import RESAMPLED_AT_ONCE, check_confidence, check_resamples, vectors


@dataclass(frozen=True)
class Correlation:
    """A rank correlation.

    Attributes:
        n: number of pairs.
        rho: -1 to 1; 0 if a vector is constant or fully determined by the given ones.
        low, high: bootstrap percentile interval.
        p: one-sided p-value for rho > 0, from Student's t.
    """

    n: int
    rho: float
    low: float
    high: float
    p: float


def rank_correlation(
    x: Sequence[float],
    y: Sequence[float],
    given: Sequence[Sequence[float]] = (),
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Correlation:
    """Spearman's rho of x and y: Pearson's correlation of their ranks, where ties share their mean rank.

    With given vectors it is the partial correlation: the ranks of x and y are regressed on the ranks of the given
    vectors, and rho is the correlation of the residuals. With k given vectors p comes from
    t = rho sqrt(f / (1 - rho^2)) with f = n - 2 - k degrees of freedom.

    Args:
        x: `(n,)`, n at least 3 + k.
        y: `(n,)`.
        given: k vectors `(n,)` that are held fixed.
        confidence: level of the interval, 0 to 1.
        resamples: number of bootstrap resamples over items.
        seed: seed of the bootstrap.

    Raises:
        CompSRTError: if the lengths differ, there are too few values, or one is NaN or infinite.
    """
    from scipy.stats import bootstrap, t

    check_confidence(confidence)
    check_resamples(resamples)
    named = {f'given[{k}]': values for k, values in enumerate(given)}
    data = vectors(3 + len(given), x=x, y=y, **named)
    n = len(data[0])
    rho = float(_partial(*data))
    freedom = n - 2 - len(given)
    unexplained = max(1 - rho * rho, 0.0)
    statistic = rho * math.sqrt(freedom / unexplained) if unexplained > 0 else math.copysign(math.inf, rho)
    interval = bootstrap(
        data,
        _partial,
        n_resamples=resamples,
        batch=max(1, RESAMPLED_AT_ONCE // (n * len(data))),
        vectorized=True,
        paired=True,
        confidence_level=confidence,
        method='percentile',
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Correlation(n, rho, float(interval.low), float(interval.high), float(t.sf(statistic, freedom)))


def _partial(*vectors: np.ndarray, axis: int = -1) -> np.ndarray:
    """Partial rank correlation of the first two of some vectors `(..., n)`, the others being given; `(...)`."""
    from scipy.stats import rankdata

    ranks = rankdata(np.stack([np.moveaxis(vector, axis, -1) for vector in vectors], axis=-2), axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    pair, given = ranks[..., :2, :], ranks[..., 2:, :]
    residuals = pair
    if given.shape[-2]:
        transposed = np.swapaxes(given, -1, -2)
        inverse = np.linalg.pinv(given @ transposed, rcond=1e-10, hermitian=True)
        residuals = pair - pair @ transposed @ inverse @ given
    left, before = (residuals**2).sum(axis=-1), (pair**2).sum(axis=-1)
    covariance = (residuals[..., 0, :] * residuals[..., 1, :]).sum(axis=-1)
    known = (left > 1e-9 * np.maximum(before, 1)).all(axis=-1)  # else the residuals are rounding errors
    scale = np.sqrt(np.where(known, left.prod(axis=-1), 1))
    return np.where(known, np.clip(covariance / scale, -1, 1), 0.0)
