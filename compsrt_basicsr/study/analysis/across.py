"""Tests across tensors: does a transform change a measure the way that is claimed of it, and is that why it helps?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from compsrt_basicsr.study.analysis.normality import TESTS
from compsrt_basicsr.study.analysis.quant_error import BITS
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.stream import EPS_ABS, EPS_REL
from compsrt_basicsr.study.analysis.tensors import distinct, gain
from compsrt_basicsr.study.stats.multiple_testing import holm
from compsrt_basicsr.study.stats.paired import compare_paired
from compsrt_basicsr.study.stats.rank import partial_rank_correlation, rank_correlation

Entry = Mapping[str, Any]
_PUBLISHED_EPS, _MIDDLE_EPS = 0.05, 0.5


@dataclass(frozen=True)
class Measure:
    """What is compared before and after.

    Attributes:
        name: as in a tensor's measures.
        at: eps, number of values in the sample, or bits; None for measures that depend on none of these.
        greater: whether the claim is that it grows.
        of: its value in a tensor's measures under one transform; None where there is none.
    """

    name: str
    at: float | None
    greater: bool
    of: Callable[[Entry], float | None]


def compared(settings: AnalysisSettings) -> list[Measure]:
    """All measures that are tested."""
    falling = ('range', 'kurtosis', 'crest', 'outliers', 'incoherence')
    found = [Measure(name, None, False, lambda e, name=name: e[name]) for name in falling]
    for name, sweep in (('near_abs', EPS_ABS), ('near_rel', EPS_REL)):
        found += [Measure(name, eps, True, lambda e, n=name, i=i: e[n][i]) for i, eps in enumerate(sweep)]
    for name in TESTS:
        for size in settings.samples:
            value = _statistic(name, None if size == settings.sample else str(size))
            found.append(Measure(name, size, name == 'shapiro', value))
    found += [Measure('sqnr', bits, True, lambda e, b=str(bits): e['quant'][b]['sqnr']) for bits in BITS]
    return found


def paired_tests(tensors: Sequence[Entry], settings: AnalysisSettings) -> list[dict[str, Any]]:
    """Every transform against none, for each measure, over the weights and over the activations.

    Tensors that are the same as another one count once. `mean`, `low`, `high` and `d_z` are of the change in the
    direction of the claim, which `alternative` names; `share` is that of the tensors that change that way. `holm_p`
    and `holm_sign_p` adjust the p-values of Wilcoxon's and the sign test over all tests of the list.

    Args:
        tensors: as in analysis.json.
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
    """Does what a transform does to a tensor predict by how many dB it gains? Spearman's rho, plain and partial.

    Predictors: `range` and `kurtosis`, the logarithm of the ratio and the difference, before to after; `near_abs` and
    `near_rel`, how much the share near zero grows. `near_abs` at 0.05, the published eps, and `near_rel` at 0.5 also
    given the other two of range, mass and kurtosis, and these given `near_abs`.
    """
    found = []
    for kind, transform, pairs in _pairs(tensors, settings):
        if len(pairs) < 5:
            continue
        predictors = _predictors(pairs)
        mass, relative = ('near_abs', _PUBLISHED_EPS), ('near_rel', _MIDDLE_EPS)
        size, tails = ('range', None), ('kurtosis', None)
        partial = {mass: [size, tails], relative: [size, tails], size: [mass, tails], tails: [size, mass]}
        for bits in BITS:
            gains = [gain(before, after, bits) for before, after in pairs]
            for key, values in predictors.items():
                for given in ([], partial[key]) if key in partial else ([],):
                    options = {'resamples': settings.resamples, 'seed': settings.seed}
                    if given:
                        others = [predictors[other] for other in given]
                        result = partial_rank_correlation(values, gains, others, **options)
                    else:
                        result = rank_correlation(values, gains, **options)
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


def _predictors(pairs: Sequence[tuple[Entry, Entry]]) -> dict[tuple[str, float | None], list[float]]:
    found: dict[tuple[str, float | None], list[float]] = {
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
    """Yields kind, transform, and the measures of each tensor before and after it."""
    for kind in dict.fromkeys(tensor['kind'] for tensor in distinct(tensors)):
        entries = [tensor['by_transform'] for tensor in distinct(tensors, kind)]
        for transform in settings.transforms[1:]:
            yield kind, transform, [(entry['none'], entry[transform]) for entry in entries]


def _statistic(name: str, size: str | None) -> Callable[[Entry], float | None]:
    def value(entry: Entry) -> float | None:
        test = (entry if size is None else entry['smaller_samples'][size])[name]
        return None if test is None else test['stat']

    return value
