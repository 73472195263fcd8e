"""Tests across tensors, on made measures whose answer is known."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from compsrt_basicsr.study.analysis.across import compared, mechanism, paired_tests
from compsrt_basicsr.study.analysis.normality import TESTS
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.stream import EPS_ABS, EPS_REL

SETTINGS = AnalysisSettings(transforms=('auto',), sample=1000, resamples=100)


def entry(random: np.random.Generator) -> dict:
    outcomes = {name: {'stat': float(random.uniform(0, 1)), 'p': 0.5} for name in TESTS}
    return {
        **{name: float(random.uniform(1, 2)) for name in ('range', 'kurtosis', 'crest', 'outliers', 'incoherence')},
        'near_abs': random.uniform(0, 1, len(EPS_ABS)).tolist(),
        'near_rel': random.uniform(0, 1, len(EPS_REL)).tolist(),
        **outcomes,
        'smaller_samples': {'200': copy.deepcopy(outcomes)},
        'quant': {bits: {'mse': 1.0, 'sqnr': float(random.uniform(10, 20))} for bits in '2348'},
    }


def made(count: int = 30, kind: str = 'weight') -> list[dict]:
    """Tensors that the transform leaves as they are."""
    random = np.random.default_rng(0)
    entries = [entry(random) for _ in range(count)]
    return [
        {
            'kind': kind,
            'skipped': None,
            'same_as': None,
            'by_transform': {'none': one, 'auto': copy.deepcopy(one)},
        }
        for one in entries
    ]


def found(tensors, measure: str, at=None) -> dict:
    (test,) = (t for t in paired_tests(tensors, SETTINGS) if (t['measure'], t['at']) == (measure, at))
    return test


def test_no_change_shows_no_effect():
    for test in paired_tests(made(), SETTINGS):
        assert test['mean'] == test['d_z'] == test['share'] == 0
        assert test['wilcoxon_p'] == test['holm_p'] == test['holm_sign_p'] == 1


def test_a_change_in_the_direction_of_the_claim_is_positive():
    """A narrower range and more mass near zero both count as the claim says."""
    tensors = made()
    for number, tensor in enumerate(tensors):
        tensor['by_transform']['auto']['range'] -= 0.1 + 0.001 * number
        tensor['by_transform']['auto']['near_abs'][EPS_ABS.index(0.05)] += 0.1 + 0.001 * number
    for measure, at, direction in (('range', None, 'less'), ('near_abs', 0.05, 'greater')):
        test = found(tensors, measure, at)
        assert test['alternative'] == direction
        assert test['n'] == 30 and test['share'] == 1
        assert 0.1 <= test['low'] <= test['mean'] <= test['high']
        assert test['sign_p'] == test['smallest_p'] == 2**-30
        assert test['wilcoxon_p'] < 1e-6


def test_a_change_against_the_claim_is_not_significant():
    tensors = made()
    for number, tensor in enumerate(tensors):
        tensor['by_transform']['auto']['range'] += 0.1 + 0.001 * number
    test = found(tensors, 'range')
    assert test['mean'] < 0 and test['share'] == 0 and test['wilcoxon_p'] > 0.99


def test_holm_is_over_all_tests_of_the_analysis():
    tensors = made()
    for number, tensor in enumerate(tensors):
        tensor['by_transform']['auto']['crest'] -= 0.1 + 0.001 * number
    both = [*tensors, *made(kind='activation')]
    family = paired_tests(both, SETTINGS)
    assert len(family) == 2 * len(compared(SETTINGS))
    (test,) = (t for t in family if t['measure'] == 'crest' and t['kind'] == 'weight')
    assert test['holm_p'] == pytest.approx(test['wilcoxon_p'] * len(family))


def test_what_is_swept_is_swept():
    """Each eps, each size of sample, each bit width has its test."""
    swept = {}
    for test in paired_tests(made(), SETTINGS):
        swept.setdefault(test['measure'], []).append(test['at'])
    assert swept['near_abs'] == list(EPS_ABS) and swept['near_rel'] == list(EPS_REL)
    assert swept['shapiro'] == swept['anderson'] == [200, 1000]
    assert swept['sqnr'] == [2, 3, 4, 8]


def test_smaller_samples_have_statistics_of_their_own():
    tensors = made()
    for number, tensor in enumerate(tensors):
        tensor['by_transform']['auto']['smaller_samples']['200']['shapiro']['stat'] += 0.1 + 0.001 * number
    assert found(tensors, 'shapiro', 200)['share'] == 1
    assert found(tensors, 'shapiro', 1000)['share'] == 0


def test_a_tensor_that_is_another_one_counts_once():
    tensors = made(10)
    for tensor in tensors[5:]:
        tensor['same_as'] = 'the first'
    assert {test['n'] for test in paired_tests(tensors, SETTINGS)} == {5}


def test_what_is_missing_is_left_out():
    tensors = made(10)
    tensors[0] = {**tensors[0], 'skipped': 'All its values are 1.', 'by_transform': {}}
    tensors[1]['by_transform']['auto']['shapiro'] = None
    assert found(tensors, 'range')['n'] == 9
    assert found(tensors, 'shapiro', 1000)['n'] == 8
    assert paired_tests(tensors[:2], SETTINGS) == []  # one tensor says nothing


def test_nothing_to_compare_with():
    assert paired_tests(made(), AnalysisSettings(transforms=('none',))) == []
    assert mechanism(made(), AnalysisSettings(transforms=('none',))) == []


def test_the_mechanism_is_found_where_there_is_one():
    """The gain follows the range alone; mass near zero follows the range too, so that it predicts only by itself."""
    random = np.random.default_rng(1)
    tensors = made(80)
    for tensor in tensors:
        before, after = tensor['by_transform'].values()
        shrink = random.uniform(0.5, 1.5)
        after['range'] = before['range'] * shrink
        for index in range(len(EPS_ABS)):
            after['near_abs'][index] = before['near_abs'][index] + 1 - shrink + random.normal(0, 0.1)
        after['kurtosis'] = before['kurtosis'] + random.normal()
        for bits in '2348':
            after['quant'][bits]['sqnr'] = before['quant'][bits]['sqnr'] - 20 * np.log10(shrink)
    rows = {(m['predictor'], m['at'], tuple(m['given'])): m for m in mechanism(tensors, SETTINGS) if m['bits'] == 4}
    size = rows['range', None, ()]
    assert size['n'] == 80 and size['rho'] == pytest.approx(1) and size['p'] < 1e-20
    mass = rows['near_abs', 0.05, ()]
    assert mass['rho'] > 0.8
    alone = rows['near_abs', 0.05, ('range', 'kurtosis')]
    assert abs(alone['rho']) < 0.3 and alone['low'] <= 0 <= alone['high']
    assert abs(rows['kurtosis', None, ()]['rho']) < 0.3
    assert len([key for key in rows if key[0] == 'near_abs' and not key[2]]) == len(EPS_ABS)
