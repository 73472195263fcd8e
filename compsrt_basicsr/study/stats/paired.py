"""Two methods on the same items: is the first better, by how much, and how far can n items tell?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compsrt_basicsr.study.stats.vectors import check_confidence, check_resamples, vectors

_CHUNK = 1_000_000  # resampled values held at once


@dataclass(frozen=True)
class PairedResult:
    """What the differences first - second say about the hypothesis first > second.

    Attributes:
        n: pairs.
        mean: mean difference.
        low, high: bootstrap interval of the mean difference.
        confidence: of that interval, 0 to 1.
        d_z: Cohen's d of paired samples, mean / standard deviation (n - 1) of the differences; 0 where all are 0,
            infinite where all are the same other number.
        wilcoxon_p: one-sided Wilcoxon signed-rank test.
        sign_p: one-sided sign test.
        smallest_p: 2^-n, the least p that either exact test can give with n pairs.
    """

    n: int
    mean: float
    low: float
    high: float
    confidence: float
    d_z: float
    wilcoxon_p: float
    sign_p: float
    smallest_p: float


def compare_paired(
    first: Sequence[float],
    second: Sequence[float],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedResult:
    """Compares paired results; every p-value is one-sided, for first > second.

    Pairs without a difference say nothing about its direction: both tests leave them out (Wilcoxon 1945), so p is 1
    where all are equal. Equal magnitudes share their mean rank. The signed-rank test is exact up to 50 pairs without
    zeros and ties, and up to 13 with them; else it takes the normal approximation with the variance corrected for ties.

    Args:
        first: results of the method that is claimed to be better, `(n,)`, n at least 2.
        second: results of the other one on the same items in the same order.
        confidence: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        CompSRTError: unequal lengths, too few values, NaN or infinity.
    """
    check_confidence(confidence)
    check_resamples(resamples)
    first, second = vectors(2, first=first, second=second)
    differences = first - second
    low, high = mean_bootstrap(differences, confidence, resamples, seed)
    return PairedResult(
        n=len(differences),
        mean=float(differences.mean()),
        low=low,
        high=high,
        confidence=confidence,
        d_z=_effect(differences),
        wilcoxon_p=_wilcoxon(differences),
        sign_p=_sign(differences),
        smallest_p=2.0 ** -len(differences),
    )


def mean_bootstrap(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Bias-corrected and accelerated interval of a mean (Efron 1987, BCa).

    The acceleration is the jackknife's, which for a mean is sum d^3 / (6 (sum d^2)^1.5) with d = value - mean.

    Args:
        values: `(n,)`.
        confidence: 0 to 1.
        resamples: number of resamples.
        seed: of their generator.
    """
    from scipy.stats import norm

    centre = values.mean()
    deviations = values - centre
    square_sum = (deviations**2).sum()
    if values.min() == values.max():
        return float(values[0]), float(values[0])
    means = _resampled_means(values, resamples, seed)
    below = ((means < centre).sum() + 0.5 * (means == centre).sum()) / resamples
    bias = norm.ppf(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    acceleration = (deviations**3).sum() / (6 * square_sum**1.5) if square_sum > 0 else 0.0
    tail = norm.ppf((1 - confidence) / 2)
    shifted = bias + np.array([tail, -tail])
    low, high = np.quantile(means, norm.cdf(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of resamples with replacement, drawn in chunks so that memory stays small, `(resamples,)`."""
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(values))
    chunks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([values[random.integers(0, len(values), (k, len(values)))].mean(axis=1) for k in chunks])


def _effect(differences: np.ndarray) -> float:
    mean = float(differences.mean())
    if differences.min() == differences.max():
        return math.copysign(math.inf, mean) if mean else 0.0
    spread = float(differences.std(ddof=1))
    return mean / spread if spread else math.copysign(math.inf, mean)  # a spread below the least float


def _wilcoxon(differences: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    kept = differences[differences != 0]
    return float(wilcoxon(kept, alternative='greater').pvalue) if len(kept) else 1.0


def _sign(differences: np.ndarray) -> float:
    from scipy.stats import binomtest

    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(better, better + worse, alternative='greater').pvalue) if better + worse else 1.0
