"""The measures of one tensor under one transform, as plain data."""

from __future__ import annotations

import math
from typing import Any

from compsrt_basicsr.study.analysis.normality import normality
from compsrt_basicsr.study.analysis.quant_error import quantization_error
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.stream import BINS, FirstPass, SecondPass

SHOWN_BINS = 128
_DIGITS = 7


def measures(first: FirstPass, second: SecondPass, settings: AnalysisSettings) -> dict[str, Any]:
    """Returns every measure of a tensor, from its two passes.

    All measures are of the values that a quantizer gets: the d values of each vector without a transform, its n
    coefficients with a transform of order n. Zeros are never appended, neither to a vector (n > d coefficients are
    `x @ T` with T (d, n)) nor as further vectors.

    `crest` is max |x - mean| / std. `incoherence` is the smallest mu with max |x| <= mu ||X||_F / sqrt(count) (QuIP,
    arXiv 2307.13304, definition 1): max |x| over the root mean square.

    Returns:
        Numbers, lists by eps, tests by name, `quant` by bit width, and `histogram` of `SHOWN_BINS` equal bins.
    """
    moments, low, high = first.moments, first.lowest, first.highest
    count, std = moments.count, moments.std
    by_size = {size: normality(second.sample[:size]) for size in settings.samples}
    found = {
        'count': count,
        'min': low,
        'max': high,
        'range': high - low,
        'mean': moments.mean,
        'std': std,
        'skewness': moments.skewness,
        'kurtosis': moments.kurtosis,
        'crest': max(high - moments.mean, moments.mean - low) / std,
        'outliers': second.outliers / count,
        'near_abs': [int(number) / count for number in first.near],
        'near_rel': [int(number) / count for number in second.near],
        **by_size[settings.sample],
        'smaller_samples': {str(size): tests for size, tests in by_size.items() if size != settings.sample},
        'incoherence': max(abs(low), abs(high)) / math.sqrt(moments.mean_square),
        'quant': quantization_error(second.counts, low, high, moments.mean_square),
        'histogram': {
            'edges': [low, high],
            'counts': second.counts.view(SHOWN_BINS, BINS // SHOWN_BINS).sum(1).tolist(),
        },
    }
    return plain(found)


def plain(value: Any) -> Any:
    """Returns data that JSON can hold: floats of 7 digits, None instead of NaN and infinity."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(f'{value:.{_DIGITS}g}') if math.isfinite(value) else None
    return value
