"""Paired comparison: properties, the smallest p of n pairs, and closed forms."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.stats.paired import compare_paired

QUICK = 200
VALUES = st.lists(st.floats(-50, 50).map(lambda v: round(v, 3)), min_size=2, max_size=12)


def normal(n, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(shift, 1, n)


def test_five_data_sets_cannot_give_less_than_one_in_32():
    """The published test has n = 5: its least p is 1/32, whatever the gain; after Holm over 18 cells none is left."""
    result = compare_paired([38.1, 33.8, 32.3, 32.5, 39.0], [30.0, 30.1, 29.2, 28.3, 30.4], resamples=QUICK)
    assert result.smallest_p == result.wilcoxon_p == result.sign_p == 1 / 32


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=6))
def test_wilcoxon_is_exact_with_ties_and_zeros(differences):
    """scipy enumerates all signs for so few pairs."""
    result = compare_paired(differences, [0] * len(differences), resamples=QUICK)
    kept = [d for d in differences if d]
    expected = scipy.stats.wilcoxon(kept, alternative='greater').pvalue if kept else 1.0
    assert result.wilcoxon_p == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(VALUES, st.integers(0, 1000))
def test_swapping_the_methods_mirrors_the_result(differences, seed):
    zero = [0.0] * len(differences)
    forth = compare_paired(differences, zero, resamples=QUICK, seed=seed)
    back = compare_paired(zero, differences, resamples=QUICK, seed=seed)
    assert back.mean == pytest.approx(-forth.mean)
    assert back.d_z == pytest.approx(-forth.d_z)
    if any(differences):  # P(X >= x) + P(X <= x) = 1 + P(X = x)
        assert forth.sign_p + back.sign_p >= 1 - 1e-12
        assert forth.wilcoxon_p + back.wilcoxon_p >= 1 - 1e-12


@settings(max_examples=40, deadline=None)
@given(VALUES, st.floats(0.5, 0.999), st.integers(0, 1000))
def test_result_is_within_its_bounds(differences, confidence, seed):
    """Interval within the values, probabilities within [2^-n, 1], the same for the same seed."""
    arguments = {'confidence': confidence, 'resamples': QUICK, 'seed': seed}
    result = compare_paired(differences, [0.0] * len(differences), **arguments)
    assert min(differences) - 1e-9 <= result.low <= result.high <= max(differences) + 1e-9
    assert result.smallest_p == 2.0 ** -len(differences)
    assert result.smallest_p <= result.wilcoxon_p * (1 + 1e-9)
    assert result.smallest_p <= result.sign_p * (1 + 1e-9)
    assert max(result.wilcoxon_p, result.sign_p) <= 1
    assert result == compare_paired(differences, [0.0] * len(differences), **arguments)


def test_effect_and_significance_of_100_pairs():
    """d_z is Student's paired t over sqrt(n); the sign test is a binomial tail."""
    first, second = normal(100, 0.3), normal(100, seed=1) ** 2 / 3
    result = compare_paired(first, second, resamples=QUICK)
    assert result.d_z == pytest.approx(scipy.stats.ttest_rel(first, second).statistic / 10)
    assert result.wilcoxon_p == pytest.approx(scipy.stats.wilcoxon(first, second, alternative='greater').pvalue)
    positive = int((first > second).sum())
    assert result.sign_p == pytest.approx(scipy.stats.binom.sf(positive - 1, 100, 0.5))


def test_interval_covers_the_mean_as_often_as_it_says():
    """95% intervals of 40 skewed values cover the true mean in 200 draws about 190 times; 175 is 4 sigma below."""
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        result = compare_paired(random.exponential(1, 40), np.ones(40), resamples=400, seed=seed)
        hits += result.low <= 0 <= result.high
    assert 175 <= hits < 200


def test_nothing_differs():
    result = compare_paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (result.mean, result.low, result.high, result.d_z) == (0, 0, 0, 0)
    assert result.wilcoxon_p == result.sign_p == 1


def test_everything_differs_by_the_same():
    result = compare_paired([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert (result.mean, result.low, result.high, result.d_z) == (1, 1, 1, math.inf)
    assert result.sign_p == result.wilcoxon_p == 1 / 8


def test_equal_pairs_are_left_out_of_the_tests():
    with_ties = compare_paired([2.0, 3.0, 4.5, 7.0], [1.0, 1.0, 1.0, 7.0])
    assert with_ties.n == 4
    assert with_ties.sign_p == with_ties.wilcoxon_p == 1 / 8


@pytest.mark.parametrize(
    ('first', 'second', 'options', 'culprit'),
    [
        ([1, 2, 3], [1, 2], {}, '`second` must have the same length, got 3 and 2'),
        ([1], [2], {}, '`first` must have at least 2 values, got 1'),
        ([1, 2], [1, math.nan], {}, '`second` must be finite: value 1'),
        ([[1, 2]], [1, 2], {}, '`first` .* shape'),
        (['a', 'b'], [1, 2], {}, '`first`'),
        ([1, 2], [2, 3], {'confidence': 95}, '`confidence` .* got 95'),
        ([1, 2], [2, 3], {'resamples': 5}, '`resamples` .* got 5'),
    ],
)
def test_wrong_values_are_named(first, second, options, culprit):
    with pytest.raises(CompSRTError, match=culprit):
        compare_paired(first, second, **options)
