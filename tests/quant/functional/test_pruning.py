"""Keep masks: exact counts, smallest magnitudes, ties, and the closed form of the schedule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.config.pruning import scheduled_ratio
from compsrt_basicsr.quant.functional.pruning import (
    keep_channels,
    keep_largest,
    keep_n_of_m,
    keep_unstructured,
)


def tensor(shape, seed, tied):
    """Normal numbers, or with many equal magnitudes."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.round() if tied else x


shapes = st.tuples(st.integers(1, 9), st.integers(1, 13))


@given(shapes, st.floats(0, 1), st.integers(0, 99), st.booleans())
def test_prunes_the_smallest_and_exactly_the_count(shape, ratio, seed, tied):
    x = tensor(shape, seed, tied)
    (keep,) = keep_unstructured([x], ratio)
    assert int((~keep).sum()) == round(ratio * x.numel())
    if keep.any() and not keep.all():
        assert x[~keep].abs().max() <= x[keep].abs().min()


@given(shapes, shapes, st.floats(0, 1), st.integers(0, 99))
def test_a_global_threshold_counts_all_tensors_together(first, second, ratio, seed):
    tensors = [tensor(first, seed, False), 3 * tensor(second, seed + 1, False)]
    masks = keep_unstructured(tensors, ratio)
    joined, keep = torch.cat([x.flatten() for x in tensors]).abs(), torch.cat([m.flatten() for m in masks])
    assert [m.shape for m in masks] == [x.shape for x in tensors]
    assert int((~keep).sum()) == round(ratio * joined.numel())
    if keep.any() and not keep.all():
        assert joined[~keep].max() <= joined[keep].min()


def test_a_global_threshold_prunes_the_smaller_tensor_more():
    small, large = torch.linspace(0.1, 0.2, 50), torch.linspace(1, 2, 50)
    first, second = keep_unstructured([small, large], 0.4)
    assert int(first.sum()) == 10 and bool(second.all())


def test_of_equal_magnitudes_the_first_is_pruned():
    x = torch.tensor([[1.0, -1.0, 1.0], [2.0, -1.0, 0.5]])
    assert keep_largest(x.abs(), 3).tolist() == [[False, False, True], [True, True, False]]
    assert keep_n_of_m(torch.ones(1, 4), 2, 4).tolist() == [[False, False, True, True]]
    (keep,) = keep_channels([torch.ones(4, 3)], 0.5)
    assert keep[:, 0].tolist() == [False, False, True, True]


def test_nan_is_kept():
    assert keep_largest(torch.tensor([1.0, float('nan'), 2.0]), 2).tolist() == [False, True, False]


@given(shapes, st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 5)]), st.integers(0, 99), st.booleans())
def test_each_group_keeps_its_n_largest(shape, pattern, seed, tied):
    n, m = pattern
    x = tensor(shape, seed, tied)
    keep = keep_n_of_m(x, n, m)
    for row, kept in zip(x.abs(), keep):
        for group, k in zip(row.split(m), kept.split(m)):
            assert int(k.sum()) == min(n, len(group))
            if not k.all():
                assert group[~k].max() <= group[k].min()


def test_groups_of_a_convolution_lie_along_its_input_channels():
    x = tensor((3, 8, 2, 2), 0, False)
    keep = keep_n_of_m(x, 2, 4)
    assert keep.shape == x.shape
    assert bool((keep.view(3, 2, 4, 2, 2).sum(2) == 2).all())
    assert torch.equal(keep[:, :, 1, 0], keep_n_of_m(x[:, :, 1, 0], 2, 4))


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
def test_channels_are_pruned_by_mean_square(first, second, ratio, seed):
    tensors = [tensor((first, 4), seed, False), tensor((second, 3, 2, 2), seed + 1, False)]
    rows = [m.flatten(1) for m in keep_channels(tensors, ratio)]
    assert all(bool((row.all(1) | ~row.any(1)).all()) for row in rows)
    keep = torch.cat([row[:, 0] for row in rows])
    assert int((~keep).sum()) == round(ratio * (first + second))
    power = torch.cat([x.flatten(1).square().mean(1) for x in tensors])
    if keep.any() and not keep.all():
        assert power[~keep].max() <= power[keep].min()


@pytest.mark.parametrize(('begin', 'end', 'frequency'), [(0, 100, 10), (7, 50, 5), (3, 4, 1)])
def test_schedule_is_the_cubic_of_zhu_and_gupta(begin, end, frequency):
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0)/(n dt))^3 with s_i = 0, exact to float64's rounding."""
    previous = 0.0
    for t in range(end + 20):
        ratio = scheduled_ratio(0.4, begin, end, frequency, t)
        if begin <= t < end and (t - begin) % frequency == 0:
            assert ratio == pytest.approx(0.4 + (0 - 0.4) * (1 - (t - begin) / (end - begin)) ** 3, abs=1e-15)
        elif t >= end:
            assert ratio == 0.4
        else:
            assert ratio == previous
        previous = ratio
