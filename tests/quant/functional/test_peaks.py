"""Vectors divided by their largest value: the kernel has the values and gradients of the torch form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compsrt_basicsr.quant.functional import fused
from compsrt_basicsr.quant.functional.peaks import divide_by_peak

pytestmark = pytest.mark.usefixtures('kernel_home')


def both_forms(x, grad):
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for least in (1, 10**9):
            patch.setattr(fused, 'LEAST', least)
            leaf = x.detach().requires_grad_()
            y = divide_by_peak(leaf, -1)
            results.append((y.detach(), *torch.autograd.grad(y, leaf, grad)))
    return results


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(1, 1100), st.integers(0, 999), st.booleans())
def test_softmax_weights(rows, columns, seed, ties):
    generator = torch.Generator().manual_seed(seed)
    x, grad = (torch.randn(rows, columns, generator=generator) for _ in range(2))
    x = (x.round() if ties else x).softmax(-1)
    (mine, gradient), (other, expected) = both_forms(x, grad)
    assert torch.equal(mine, other)
    # float32 sums of `columns` terms in another order
    magnitude = (grad.abs() * mine).sum(-1, keepdim=True) / x.amax(-1, keepdim=True)
    assert bool(((gradient - expected).abs() <= 1e-6 * (magnitude + expected.abs())).all())


def test_gradient_is_that_of_the_equation():
    """Finite differences of the torch form in float64; the kernel computes the same."""
    x = torch.rand(3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: divide_by_peak(x, -1), x)


@pytest.mark.parametrize('value', [0.0, 1e-45, float('nan'), float('inf'), 3.0])
def test_constant_rows(value):
    x = torch.full((4, 21), value)
    (mine, gradient), (other, expected) = both_forms(x, torch.ones(4, 21))
    assert torch.allclose(mine, other, equal_nan=True, rtol=0) and torch.equal(mine.isnan(), other.isnan())
    if value in (0.0, 3.0):
        assert torch.allclose(gradient, expected, atol=1e-6)


def test_another_axis_and_layout_take_torch():
    x = torch.rand(30, 40)
    assert torch.equal(divide_by_peak(x, 0), x / x.amax(0, keepdim=True))
    assert torch.equal(divide_by_peak(x.T, -1), x.T / x.T.amax(-1, keepdim=True))
