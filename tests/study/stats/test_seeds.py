"""Means over runs."""

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.stats.seeds import Interval, mean_interval


@given(st.lists(st.floats(20, 50), min_size=2, max_size=10), st.floats(0.5, 0.99))
def test_against_scipy(values, confidence):
    found = mean_interval(values, confidence)
    error = scipy.stats.sem(values)
    if error > 1e-9:
        low, high = scipy.stats.t.interval(confidence, len(values) - 1, sum(values) / len(values), error)
        assert (found.low, found.high) == pytest.approx((low, high))
    assert found.low <= found.mean <= found.high


def test_three_seeds():
    """t(2) at 95% is 4.3027: three seeds say little."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.std) == (3, 2, 1)
    assert found.high == pytest.approx(2 + 4.30265 / 3**0.5, abs=1e-5)


def test_one_seed_has_no_interval():
    assert mean_interval([33.5]) == Interval(1, 33.5, None, None, None)


@pytest.mark.parametrize(('values', 'culprit'), [([], 'at least 1'), ([float('nan')], 'value 0')])
def test_wrong_values_are_named(values, culprit):
    with pytest.raises(CompSRTError, match=f'`values` .*{culprit}'):
        mean_interval(values)
