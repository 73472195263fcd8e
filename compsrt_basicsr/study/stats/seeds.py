"""Repetitions of one experiment with different seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compsrt_basicsr.study.stats.vectors import check_confidence, vector


@dataclass(frozen=True)
class Interval:
    """A mean over runs.

    Attributes:
        n: number of runs.
        mean: mean of the runs.
        std: standard deviation (n - 1); None for a single run.
        low, high: confidence interval of the mean; None for a single run.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean with Student's t interval, mean ± t(n - 1) std / sqrt(n).

    Args:
        values: one value per run.
        confidence: level of the interval, 0 to 1.

    Raises:
        CompSRTError: if there is no value, or one is NaN or infinite.
    """
    from scipy.stats import t

    check_confidence(confidence)
    found = vector(values, 'values', 1)
    n, mean = len(found), float(found.mean())
    if n == 1:
        return Interval(1, mean, None, None, None)
    std = float(found.std(ddof=1))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n)
    return Interval(n, mean, std, mean - half, mean + half)
