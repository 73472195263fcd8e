"""Tests across tensors: does a transform change a measure as claimed, and does that explain its gain?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

from compsrt_basicsr.study.analysis.normality import TESTS
from compsrt_basicsr.study.analysis.quant_error import BITS
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.stream import EPS_ABS, EPS_REL
from compsrt_basicsr.study.analysis.tensors import distinct, gain
from compsrt_basicsr.study.stats.multiple_testing import holm
from compsrt_basicsr.study.stats.paired import compare_paired
from compsrt_basicsr.study.stats.rank import rank_correlation

Entry = Mapping[str, Any]
_FALLING = ('range', 'kurtosis', 'crest', 'outliers', 'incoherence')
Predictor = tuple[str, float | None]  # a measure and its eps
_RANGE: Predictor = ('range', None)
_TAILS: Predictor = ('kurtosis', None)
_MASS: Predictor = ('near_abs', 0.05)  # the published eps
_RELATIVE: Predictor = ('near_rel', 0.5)


@dataclass(frozen=True)
class Measure:
    """A measure that is compared before and after a transform.

    Attributes:
        name: its key in the measures of a tensor.
        at: eps, sample size or bits; None for measures without such a parameter.
        greater: True if the claim is that it grows, False if it falls.
        of: reads its value from a tensor's measures under one transform; None if it has none.
    """

    name: str
    at: float | None
    greater: bool
    of: Callable[[Entry], float | None]


def compared(settings: AnalysisSettings) -> list[Measure]:
    """Returns all measures that are tested."""
    found = [Measure(name, None, False, itemgetter(name)) for name in _FALLING]
    for name, sweep in (('near_abs', EPS_ABS), ('near_rel', EPS_REL)):
        found += [Measure(name, eps, True, _share(name, index)) for index, eps in enumerate(sweep)]
    for name in TESTS:
        for size in settings.samples:
            value = _statistic(name, None if size == settings.sample else str(size))
            found.append(Measure(name, size, name == 'shapiro', value))
    found += [Measure('sqnr', bits, True, _sqnr(str(bits))) for bits in BITS]
    return found


def paired_tests(tensors: Sequence[Entry], settings: AnalysisSettings) -> list[dict[str, Any]]:
    """Compares every transform with none, for each measure, over the weights and over the activations.

    Identical tensors count once. `mean`, `low`, `high` and `d_z` describe the change in the direction of the claim,
    which `alternative` names; `share` is the share of the tensors that change in that direction. `holm_p` and
    `holm_sign_p` are the p-values of Wilcoxon's and the sign test, adjusted over all tests of the list.

    Args:
        tensors: the tensors of analysis.json.
        settings: transforms and samples.
    """
    found = []
    for kind, transform, pairs in _pairs(tensors, settings):
        for measure in compared(settings):
            values = [(measure.of(before), measure.of(after)) for before, after in pairs]
            values = [pair for pair in values if None not in pair]
            if len(values) < 2:
                continue
            before, after = zip(*values)
            first, second = (after, before) if measure.greater else (before, after)
            result = compare_paired(first, second, resamples=settings.resamples, seed=settings.seed)
            found.append(
                {
                    'kind': kind,
                    'measure': measure.name,
                    'at': measure.at,
                    'transform': transform,
                    'alternative': 'greater' if measure.greater else 'less',
                    'share': sum(a > b for a, b in zip(first, second)) / len(values),
                    **asdict(result),
                }
            )
    for name, adjusted in (('wilcoxon_p', 'holm_p'), ('sign_p', 'holm_sign_p')):
        for test, p in zip(found, holm([test[name] for test in found])):
            test[adjusted] = p
    return found


def mechanism(tensors: Sequence[Entry], settings: AnalysisSettings) -> list[dict[str, Any]]:
    """Spearman's rho between what a transform changes in a tensor and the gain in dB, plain and partial.

    Predictors: the logarithm of `range` before / after, the fall of `kurtosis`, and the growth of `near_abs` and
    `near_rel` at each eps. Of range, kurtosis and `near_abs` at the published eps, each is also correlated given the
    other two, and `near_rel` at 0.5 given range and kurtosis.

    Args:
        tensors: the tensors of analysis.json.
        settings: transforms, seed and resamples.
    """
    found = []
    for kind, transform, pairs in _pairs(tensors, settings):
        if len(pairs) < 5:
            continue
        predictors = _predictors(pairs)
        partial: dict[Predictor, list[Predictor]] = {
            _MASS: [_RANGE, _TAILS],
            _RELATIVE: [_RANGE, _TAILS],
            _RANGE: [_MASS, _TAILS],
            _TAILS: [_RANGE, _MASS],
        }
        for bits in BITS:
            gains = [gain(before, after, bits) for before, after in pairs]
            for key, values in predictors.items():
                for given in [[], partial[key]] if key in partial else [[]]:
                    others = [predictors[other] for other in given]
                    result = rank_correlation(values, gains, others, resamples=settings.resamples, seed=settings.seed)
                    found.append(
                        {
                            'kind': kind,
                            'transform': transform,
                            'predictor': key[0],
                            'at': key[1],
                            'gain': 'sqnr',
                            'bits': bits,
                            **asdict(result),
                            'given': [other[0] for other in given],
                        }
                    )
    return found


def _predictors(pairs: Sequence[tuple[Entry, Entry]]) -> dict[Predictor, list[float]]:
    found: dict[Predictor, list[float]] = {
        ('range', None): [math.log(before['range'] / after['range']) for before, after in pairs],
        ('kurtosis', None): [before['kurtosis'] - after['kurtosis'] for before, after in pairs],
    }
    for name, sweep in (('near_abs', EPS_ABS), ('near_rel', EPS_REL)):
        for index, eps in enumerate(sweep):
            found[name, eps] = [after[name][index] - before[name][index] for before, after in pairs]
    return found


def _pairs(
    tensors: Sequence[Entry], settings: AnalysisSettings
) -> Iterator[tuple[str, str, list[tuple[Entry, Entry]]]]:
    """Yields kind, transform, and the measures of each tensor without and with it."""
    for kind in dict.fromkeys(tensor['kind'] for tensor in distinct(tensors)):
        entries = [tensor['by_transform'] for tensor in distinct(tensors, kind)]
        for transform in settings.transforms[1:]:
            yield kind, transform, [(entry['none'], entry[transform]) for entry in entries]


def _share(name: str, index: int) -> Callable[[Entry], float | None]:
    return lambda entry: entry[name][index]


def _sqnr(bits: str) -> Callable[[Entry], float | None]:
    return lambda entry: entry['quant'][bits]['sqnr']


def _statistic(name: str, size: str | None) -> Callable[[Entry], float | None]:
    def value(entry: Entry) -> float | None:
        test = (entry if size is None else entry['smaller_samples'][size])[name]
        return None if test is None else test['stat']

    return value
