"""Holm's adjustment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.stats.multiple_testing import holm

P_VALUES = st.lists(st.floats(0, 1), max_size=20)


def rejected(p_values, level):
    """Step by step as Holm wrote it: reject the least while p <= level / (number left)."""
    found, left = set(), len(p_values)
    for index in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        if p_values[index] * left > level:
            break
        found.add(index)
        left -= 1
    return found


@given(P_VALUES, st.floats(1e-6, 0.999))
def test_rejects_what_the_steps_reject(p_values, level):
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected(p_values, level)


@given(P_VALUES)
def test_between_the_plain_value_and_bonferroni(p_values):
    for plain, adjusted in zip(p_values, holm(p_values)):
        assert plain <= adjusted <= min(1, plain * len(p_values))


@given(P_VALUES, st.randoms())
def test_order_is_kept(p_values, random):
    order = list(range(len(p_values)))
    random.shuffle(order)
    adjusted = holm(p_values)
    assert holm([p_values[i] for i in order]) == [adjusted[i] for i in order]


def test_known_family():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_published_family_keeps_nothing():
    """18 cells of n = 5, each at its least possible p."""
    assert min(holm([1 / 32] * 18)) == pytest.approx(18 / 32)


@pytest.mark.parametrize('p', [-0.1, 1.1, float('nan')])
def test_not_a_probability(p):
    with pytest.raises(CompSRTError, match=r'`p_values` must be 0 to 1, got '):
        holm([0.5, p])
