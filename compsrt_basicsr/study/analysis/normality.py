"""Four normality tests of a sample."""

from __future__ import annotations

import math

import numpy as np

TESTS = ('shapiro', 'dagostino', 'anderson', 'jarque_bera')
LARGEST = 5000  # valid range of Royston's approximation in Shapiro-Wilk
SMALLEST = 20  # D'Agostino's approximation of the kurtosis holds from here on
Outcome = dict[str, float]


def normality(sample: np.ndarray) -> dict[str, Outcome | None]:
    """Statistic and p-value of each of `TESTS`, for the hypothesis that the values are normally distributed.

    Shapiro-Wilk's W is 1 for a perfectly normal sample, and smaller otherwise. D'Agostino's K^2, Anderson-Darling's A^2
    (with Stephens' correction for estimated mean and variance) and Jarque-Bera's JB are 0, and larger otherwise. With
    thousands of values nearly every p-value is tiny; compare the statistics of equally large samples instead.

    Args:
        sample: (M,), M at most `LARGEST`.

    Returns:
        `stat` and `p` of each test; None if there are fewer than `SMALLEST` values or all are equal.
    """
    from scipy import stats  # slow to import

    values = np.sort(sample.astype(np.float64))
    deviation = values.std(ddof=1) if len(values) >= SMALLEST else 0.0
    if not deviation > 0:
        return dict.fromkeys(TESTS)
    values = (values - values.mean()) / deviation  # the tests are invariant to this, their rounding is not
    found = {
        'shapiro': stats.shapiro(values),
        'dagostino': stats.normaltest(values),
        'anderson': _anderson_darling(values),
        'jarque_bera': stats.jarque_bera(values),
    }
    return {name: {'stat': float(stat), 'p': float(p)} for name, (stat, p) in found.items()}


def _anderson_darling(values: np.ndarray) -> tuple[float, float]:
    """A^2 of sorted, standardised values, corrected for their count, and its p-value."""
    from scipy.special import log_ndtr

    n = len(values)
    weights = (2 * np.arange(1, n + 1) - 1) / n
    statistic = -n - float(np.sum(weights * (log_ndtr(values) + log_ndtr(-values[::-1]))))
    statistic *= 1 + 0.75 / n + 2.25 / n**2
    return statistic, anderson_darling_p(statistic)


def anderson_darling_p(a: float) -> float:
    """Returns the p-value of a corrected A^2 with estimated mean and variance.

    Stephens, in D'Agostino and Stephens, Goodness-of-Fit Techniques (1986), table 4.9, case 3.
    """
    if a >= 0.6:
        a = min(a, 153)  # the parabola turns there; p is 0 long before
        return math.exp(1.2937 - 5.709 * a + 0.0186 * a**2)
    if a >= 0.34:
        return math.exp(0.9177 - 4.279 * a - 1.38 * a**2)
    if a >= 0.2:
        return 1 - math.exp(-8.318 + 42.796 * a - 59.938 * a**2)
    return 1 - math.exp(-13.436 + 101.14 * a - 223.73 * a**2)
