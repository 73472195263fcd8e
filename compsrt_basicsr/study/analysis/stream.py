"""Two passes over the values of one tensor under one transform, piece by piece and in constant memory.

The first pass finds range and moments. The second uses them for a histogram over the exact range and for counts
relative to the standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from compsrt_basicsr.study.analysis.moments import Moments

EPS_ABS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # the paper uses 0.05
EPS_REL = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the standard deviation
OUTLIER = 3.0  # standard deviations from the mean
BINS = 4096
_CHUNK = 2**16  # values that fit into the cache of a processor
_NOISE = 1e-6  # rounding error of a float32 product, relative to its largest value


def transformed(rows: Tensor, matrix: Tensor | None) -> Iterator[Tensor]:
    """Splits rows (M, d) into pieces and transforms each.

    Args:
        rows: vectors of d real values, without padding.
        matrix: T, (d, n), or None for the identity.

    Yields:
        (k,) float32, the coefficients of some whole rows.
    """
    width = rows.shape[1] if matrix is None else matrix.shape[1]
    for part in rows.float().split(max(1, _CHUNK // width)):
        yield (part if matrix is None else part @ matrix).reshape(-1)


class FirstPass:
    """Range, moments and counts near zero of one tensor under one transform.

    Attributes:
        moments: moments of all coefficients so far.
        lowest, highest: the exact range; NaN after a value that is not finite, and nothing more is counted then.
        near: number of |x| <= eps for each eps of `EPS_ABS`.
    """

    def __init__(self, matrix: Tensor | None) -> None:
        self.matrix = matrix
        self.moments = Moments()
        self.lowest, self.highest = math.inf, -math.inf
        self.near = np.zeros(len(EPS_ABS), np.int64)

    def add(self, rows: Tensor) -> None:
        """Adds vectors (M, d)."""
        for values in transformed(rows, self.matrix):
            lowest, highest = (float(end) for end in values.aminmax())
            if not (math.isfinite(lowest) and math.isfinite(highest) and self.finite):
                self.lowest = self.highest = math.nan
                return
            self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
            self.moments = self.moments.merge(Moments.of(values))
            self.near += _counts_below(values.abs().numpy(), EPS_ABS)

    @property
    def finite(self) -> bool:
        """False after a NaN or infinite value."""
        return not math.isnan(self.lowest)

    @property
    def constant(self) -> bool:
        """True if all values are equal up to float32 rounding."""
        largest = max(abs(self.lowest), abs(self.highest))
        return self.highest - self.lowest <= max(_NOISE * largest, 1e-30)


class SecondPass:
    """Histogram, counts relative to the standard deviation, and a sample of a tensor after its first pass.

    Attributes:
        counts: (BINS,), equal bins over the exact range.
        near: number of |x| <= eps standard deviations for each eps of `EPS_REL`.
        outliers: number of values more than `OUTLIER` standard deviations from the mean.
        sample: (min(size, count),) float32, drawn without replacement in random order: its first k values are a sample
            too.
    """

    def __init__(self, first: FirstPass, sample: int, seed: tuple[int, ...]) -> None:
        self.matrix, self._first = first.matrix, first
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.near = np.zeros(len(EPS_REL), np.int64)
        self.outliers = 0
        count = first.moments.count
        drawn = np.random.default_rng(seed).choice(count, min(sample, count), replace=False)
        self._order = np.argsort(drawn)
        self._positions = drawn[self._order]
        self.sample = np.zeros(len(drawn), np.float32)
        self._seen = 0

    def add(self, rows: Tensor) -> None:
        """Adds the same vectors as in the first pass, in the same order."""
        low, high = self._first.lowest, self._first.highest
        mean, std = self._first.moments.mean, self._first.moments.std
        for values in transformed(rows, self.matrix):
            bins = ((values - low) * (BINS / (high - low))).clamp_(0, BINS - 1).to(torch.int32)
            self.counts += torch.bincount(bins, minlength=BINS)
            plain = values.numpy()
            self.near += _counts_below(np.abs(plain), [eps * std for eps in EPS_REL])
            self.outliers += _counts_below(np.abs(plain - np.float32(mean)), [OUTLIER * std], above=True)[0]
            self._draw(plain)

    def _draw(self, values: np.ndarray) -> None:
        start, stop = np.searchsorted(self._positions, (self._seen, self._seen + len(values)))
        self.sample[self._order[start:stop]] = values[self._positions[start:stop] - self._seen]
        self._seen += len(values)


def _counts_below(sizes: np.ndarray, limits: Iterable[float], above: bool = False) -> np.ndarray:
    compare = np.greater if above else np.less_equal
    return np.array([np.count_nonzero(compare(sizes, np.float32(limit))) for limit in limits])
