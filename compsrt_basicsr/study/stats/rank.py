"""Spearman's rank correlation, plain and partial, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compsrt_basicsr.study.stats.vectors import check_confidence, check_resamples, vectors

_CHUNK = 200_000  # resampled values held at once


@dataclass(frozen=True)
class Correlation:
    """A rank correlation.

    Attributes:
        n: pairs.
        rho: -1 to 1; 0 where a vector is constant, or wholly told by the given ones.
        low, high: bootstrap percentile interval.
        p: one-sided, for rho > 0, from Student's t.
    """

    n: int
    rho: float
    low: float
    high: float
    p: float


def rank_correlation(
    x: Sequence[float], y: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Correlation:
    """Spearman's rho of two vectors: Pearson's correlation of their ranks, ties sharing the mean rank.

    Args:
        x: `(n,)`, n at least 3.
        y: `(n,)`.
        confidence: of the interval.
        resamples: of the bootstrap over pairs.
        seed: of the bootstrap.

    Raises:
        CompSRTError: unequal lengths, too few values, NaN or infinity.
    """
    return partial_rank_correlation(x, y, [], confidence=confidence, resamples=resamples, seed=seed)


def partial_rank_correlation(
    x: Sequence[float],
    y: Sequence[float],
    given: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Correlation:
    """Spearman's rho of x and y with other vectors held fixed.

    The ranks of x and y are regressed on the ranks of the given vectors; rho is the correlation of what is left. With
    k given vectors p comes from t = rho sqrt(f / (1 - rho^2)) with f = n - 2 - k degrees of freedom.

    Args:
        x: `(n,)`, n at least 3 + k.
        y: `(n,)`.
        given: k vectors `(n,)`.
        confidence: of the interval.
        resamples: of the bootstrap over items.
        seed: of the bootstrap.

    Raises:
        CompSRTError: unequal lengths, too few values, NaN or infinity.
    """
    from scipy.stats import t

    check_confidence(confidence)
    check_resamples(resamples)
    named = {f'given[{k}]': values for k, values in enumerate(given)}
    data = np.stack(vectors(3 + len(given), x=x, y=y, **named))
    n = data.shape[1]
    rho = float(_partial(data[None])[0])
    freedom = n - 2 - len(given)
    unexplained = max(1 - rho * rho, 0.0)
    statistic = rho * math.sqrt(freedom / unexplained) if unexplained > 0 else math.copysign(math.inf, rho)
    found = _resampled(data, resamples, seed)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Correlation(n, rho, float(low), float(high), float(t.sf(statistic, freedom)))


def _resampled(data: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Correlations of resampled items, `(resamples,)`, in chunks so that memory stays small."""
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // data.size)
    found = []
    for start in range(0, resamples, rows):
        picks = random.integers(0, data.shape[1], (min(rows, resamples - start), data.shape[1]))
        found.append(_partial(np.moveaxis(data[:, picks], 0, 1)))
    return np.concatenate(found)


def _partial(data: np.ndarray) -> np.ndarray:
    """Partial rank correlations of batches `(B, 2 + k, n)` whose rows are x, y and the given vectors; `(B,)`."""
    from scipy.stats import rankdata

    ranks = rankdata(data, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    pair, given = ranks[:, :2], ranks[:, 2:]
    if given.shape[1]:
        products = given @ given.transpose(0, 2, 1)
        weights = pair @ given.transpose(0, 2, 1) @ np.linalg.pinv(products, rcond=1e-10, hermitian=True)
        rest = pair - weights @ given
    else:
        rest = pair
    left, before = (rest**2).sum(axis=-1), (pair**2).sum(axis=-1)
    covariance = (rest[:, 0] * rest[:, 1]).sum(axis=-1)
    known = (left > 1e-9 * np.maximum(before, 1)).all(axis=-1)  # else what is left is rounding
    scale = np.sqrt(np.where(known, left.prod(axis=-1), 1))
    return np.where(known, np.clip(covariance / scale, -1, 1), 0.0)
