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
    """Everything that is told of a tensor, from its two passes.

    All of it is of real coefficients: without a transform the d values of each vector, with one of order n the n
    coefficients that these make, all of which a quantizer gets. Zeros are never appended: neither to a vector, whose
    transform to n > d coefficients is `x @ T` with T (d, n), nor as further vectors, whose coefficients would all be
    zero.

    `crest` is max |x - mean| / std. `incoherence` is the least mu with max |x| <= mu ||X||_F / sqrt(count) (QuIP,
    arXiv 2307.13304, definition 1), max |x| over the root mean square.

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
    """Data that JSON can hold: floats of 7 digits, None for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(f'{value:.{_DIGITS}g}') if math.isfinite(value) else None
    return value
