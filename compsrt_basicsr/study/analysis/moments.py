"""Central moments of a stream of values, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean and sums of powers of deviations from the mean, which can be merged (Chan 1983, Pebay 2008).

    Attributes:
        count: n.
        mean: mean of the values.
        m2, m3, m4: sums of (x - mean)^k for k = 2, 3, 4.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Computes the moments of values (M,), M at least 1, around their own mean."""
        deviation = values.double()
        mean = float(deviation.mean())
        deviation = deviation - mean
        square = deviation * deviation
        m2, m3, m4 = square.sum(), torch.dot(square, deviation), torch.dot(square, square)
        return cls(values.numel(), mean, float(m2), float(m3), float(m4))

    def merge(self, other: Moments) -> Moments:
        """Returns the moments of both streams together (Pebay, SAND2008-6212, equations 1.5 and 2.1)."""
        if not (self.count and other.count):
            return self if self.count else other
        a, b = self.count, other.count
        n = a + b
        delta = other.mean - self.mean
        share_a, share_b = a / n, b / n
        m2 = self.m2 + other.m2 + delta**2 * a * share_b
        m3 = (
            self.m3
            + other.m3
            + delta**3 * a * share_b * (share_a - share_b)
            + 3 * delta * (share_a * other.m2 - share_b * self.m2)
        )
        m4 = (
            self.m4
            + other.m4
            + delta**4 * a * share_b * (share_a**2 - share_a * share_b + share_b**2)
            + 6 * delta**2 * (share_a**2 * other.m2 + share_b**2 * self.m2)
            + 4 * delta * (share_a * other.m3 - share_b * self.m3)
        )
        return Moments(n, self.mean + delta * share_b, m2, m3, m4)

    @property
    def std(self) -> float:
        """Standard deviation, of the population."""
        return math.sqrt(self.m2 / self.count)

    @property
    def mean_square(self) -> float:
        """Mean of x^2, the power of the signal."""
        return self.m2 / self.count + self.mean**2

    @property
    def skewness(self) -> float:
        """Third standardised moment, 0 for a normal distribution."""
        return (self.m3 / self.count) / self.std**3

    @property
    def kurtosis(self) -> float:
        """Excess kurtosis: the fourth standardised moment less 3, 0 for a normal distribution."""
        return self.count * self.m4 / self.m2**2 - 3
