"""Rank correlations against scipy's and the closed form of first order."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.stats.rank import rank_correlation

QUICK = {'resamples': 100}
PAIRS = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=3, max_size=30)


def sample(n=60, seed=0):
    """x and y that have only z in common."""
    random = np.random.default_rng(seed)
    z = random.normal(size=n)
    return z + 0.3 * random.normal(size=n), np.exp(z + 0.3 * random.normal(size=n)), z


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_against_scipy(pairs):
    """rho and one-sided p, ties included; 0 where scipy has no answer for a constant."""
    x, y = np.array(pairs, float).T
    found = rank_correlation(x, y, **QUICK)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert (found.rho, found.p) == (0, 0.5)
        return
    expected = scipy.stats.spearmanr(x, y, alternative='greater')
    assert found.rho == pytest.approx(expected.statistic, abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-6)
    assert -1 <= found.low <= found.high <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_only_the_order_counts(seed):
    x, y, z = sample(20, seed)
    plain = rank_correlation(x, y, [z], **QUICK)
    assert rank_correlation(np.exp(x), y**3, [np.arctan(z)], **QUICK) == plain


def test_partial_against_the_closed_form():
    """(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)) for one given vector, Spearman's r throughout."""
    x, y, z = sample()
    r_xy, r_xz, r_yz = (scipy.stats.spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    expected = (r_xy - r_xz * r_yz) / math.sqrt((1 - r_xz**2) * (1 - r_yz**2))
    found = rank_correlation(x, y, [z], **QUICK)
    assert found.rho == pytest.approx(expected, abs=1e-9)
    t = expected * math.sqrt(57 / (1 - expected**2))
    assert found.p == pytest.approx(scipy.stats.t.sf(t, 57), abs=1e-9)


def test_correlation_by_a_common_cause_vanishes():
    x, y, z = sample(200)
    assert rank_correlation(x, y).low > 0.8
    partial = rank_correlation(x, y, [z])
    assert partial.low < 0 < partial.high


def test_fully_determined_by_the_given():
    x, y, z = sample()
    found = rank_correlation(x, y, [z, 2 * x + 1], **QUICK)
    assert (found.rho, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ('vectors', 'culprit'),
    [
        (([1, 2, 3, 4, 5], range(5), [range(4)]), r'`given\[0\]`'),
        (([1, 2], [1, 2]), '`x` must have at least 3'),
        (([1, 2, 3], [1, 2, math.nan]), '`y` must be finite: value 2'),
    ],
)
def test_wrong_vectors_are_named(vectors, culprit):
    with pytest.raises(CompSRTError, match=culprit):
        rank_correlation(*vectors)
