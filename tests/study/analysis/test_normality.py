"""Tests of normality, against SciPy's own and what they are for."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from compsrt_basicsr.study.analysis.normality import LARGEST, TESTS, anderson_darling_p, normality


def draw(kind: str, size: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return {'normal': random.normal, 'laplace': random.laplace, 'uniform': random.uniform}[kind](size=size) * 7 + 3


@pytest.mark.parametrize('size', [20, 200, LARGEST])
@pytest.mark.parametrize('kind', ['normal', 'laplace', 'uniform'])
def test_statistics_are_those_of_scipy(kind: str, size: int):
    values = draw(kind, size)
    found = normality(values)
    for name, test in (('shapiro', stats.shapiro), ('dagostino', stats.normaltest), ('jarque_bera', stats.jarque_bera)):
        expected = test(values)
        assert found[name]['stat'] == pytest.approx(expected.statistic, rel=1e-6), name
        assert found[name]['p'] == pytest.approx(expected.pvalue, rel=1e-5, abs=1e-12), name
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of a coming change of SciPy's
        plain = stats.anderson(values).statistic
    assert found['anderson']['stat'] == pytest.approx(plain * (1 + 0.75 / size + 2.25 / size**2), rel=1e-6)


def test_p_of_anderson_darling_is_that_of_the_published_critical_values():
    """Stephens' table 4.7, case 3: 0.631, 0.752, 0.873, 1.035 at 10, 5, 2.5 and 1%."""
    for critical, level in ((0.631, 0.10), (0.752, 0.05), (0.873, 0.025), (1.035, 0.01)):
        assert anderson_darling_p(critical) == pytest.approx(level, rel=0.05)
    steps = [anderson_darling_p(a) for a in np.linspace(0, 400, 4001)]
    assert all(0 <= p <= 1 for p in steps)
    assert all(a >= b - 0.005 for a, b in pairwise(steps))  # the four pieces meet to that


def test_normal_samples_are_rejected_as_often_as_the_level_says():
    rejected = dict.fromkeys(TESTS, 0)
    for seed in range(150):
        for name, outcome in normality(draw('normal', 100, seed)).items():
            rejected[name] += outcome['p'] < 0.1
    # 15 expected, standard deviation 3.7; Jarque-Bera's p-value, of large samples, rejects too seldom in small ones
    assert 1 <= rejected.pop('jarque_bera') <= 27
    assert all(4 <= count <= 27 for count in rejected.values()), rejected


def test_heavier_tails_are_less_normal():
    near, far = normality(draw('normal', 2000)), normality(draw('laplace', 2000))
    assert far['shapiro']['stat'] < near['shapiro']['stat']
    for name in ('dagostino', 'anderson', 'jarque_bera'):
        assert far[name]['stat'] > near[name]['stat'] and far[name]['p'] < 0.001


def test_values_far_from_zero_lose_no_digits():
    values = draw('laplace', 500)
    near, far = normality(values), normality(values * 1e-6 + 1)
    for name in TESTS:
        assert far[name]['stat'] == pytest.approx(near[name]['stat'], rel=1e-6)


@pytest.mark.parametrize('values', [np.zeros(100), np.arange(19.0)])
def test_no_test_of_constants_or_of_a_handful(values: np.ndarray):
    assert normality(values) == dict.fromkeys(TESTS)
