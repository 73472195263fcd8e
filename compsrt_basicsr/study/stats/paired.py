"""Paired comparison of two methods on the same items: effect, confidence interval and significance tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compsrt_basicsr.study.stats.vectors import RESAMPLED_AT_ONCE, check_confidence, check_resamples, vectors

_ENUMERATED = 13  # pairs up to which the signed-rank test counts all 2^n signs


@dataclass(frozen=True)
class PairedResult:
    """The differences `first - second` under the hypothesis first > second.

    Attributes:
        n: number of pairs.
        mean: mean difference.
        low, high: bootstrap interval of the mean difference.
        confidence: level of that interval, 0 to 1.
        d_z: Cohen's d of paired samples, mean / standard deviation (n - 1) of the differences; 0 if all are 0,
            infinite if all are the same other number.
        wilcoxon_p: p-value of the one-sided Wilcoxon signed-rank test.
        sign_p: p-value of the one-sided sign test.
        smallest_p: 2^-n, the smallest p-value that either exact test can return with n pairs.
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
    """Compares paired results. Every p-value is one-sided, for first > second.

    Both tests leave out pairs without a difference (Wilcoxon 1945); p is 1 if all pairs are equal. Equal magnitudes
    share their mean rank. Wilcoxon's test is exact for up to 13 pairs, and up to 50 if all magnitudes differ; else it
    uses the normal approximation with the variance corrected for ties.

    Args:
        first: results of the method that is claimed to be better, `(n,)`, n at least 2.
        second: results of the other method on the same items in the same order.
        confidence: level of the interval, 0 to 1.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Raises:
        CompSRTError: if the lengths differ, there are too few values, or one is NaN or infinite.
    """
    check_confidence(confidence)
    check_resamples(resamples)
    better, worse = vectors(2, first=first, second=second)
    differences = better - worse
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
    """Bias-corrected and accelerated (BCa) bootstrap interval of a mean (Efron 1987).

    Args:
        values: `(n,)`, n at least 2.
        confidence: level of the interval, 0 to 1.
        resamples: number of resamples.
        seed: seed of the generator.

    Returns:
        The lower and the upper end; the value itself twice if all values are equal.
    """
    from scipy.stats import bootstrap

    if values.min() == values.max():
        return float(values[0]), float(values[0])
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, RESAMPLED_AT_ONCE // len(values)),
        vectorized=True,
        confidence_level=confidence,
        method='BCa',
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _effect(differences: np.ndarray) -> float:
    mean = float(differences.mean())
    if differences.min() == differences.max():
        return math.copysign(math.inf, mean) if mean else 0.0
    spread = float(differences.std(ddof=1))
    return mean / spread if spread else math.copysign(math.inf, mean)  # the spread underflows


def _wilcoxon(differences: np.ndarray) -> float:
    from scipy.stats import rankdata, wilcoxon

    kept = differences[differences != 0]
    if len(kept) > _ENUMERATED:
        return float(wilcoxon(kept, alternative='greater').pvalue)
    # scipy counts all signs too if magnitudes are equal, but a thousand times slower
    ranks = rankdata(np.abs(kept))
    signs = np.arange(2 ** len(kept))[:, None] >> np.arange(len(kept)) & 1
    return float(np.mean(signs @ ranks >= ranks[kept > 0].sum() - 1e-9))


def _sign(differences: np.ndarray) -> float:
    from scipy.stats import binomtest

    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(better, better + worse, alternative='greater').pvalue) if better + worse else 1.0
