"""Fake quantization by the C++ kernel: bit for bit the values of the torch form, gradients against float64."""

import logging

import pytest
import torch
from conftest import forget_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from compsrt_basicsr.quant.functional import fused
from compsrt_basicsr.quant.functional.affine import _StrictFakeQuantize, fake_quantize, vector_range
from compsrt_basicsr.quant.functional.fused import fused_fake_quantize, fused_is_right, serves
from compsrt_basicsr.quant.quantizer import Quantizer

pytestmark = pytest.mark.usefixtures('kernel_home')
SHAPES = st.lists(st.integers(1, 21), min_size=1, max_size=4).filter(lambda shape: len(shape) > 1 or shape[0] > 1)
TOLERANCE = 1e-5  # of sums, relative to the sum of magnitudes


def operands(shape, order_seed, seed, extreme=False):
    """Values and a gradient, of one shape but with strides of any order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(shape), generator=torch.Generator().manual_seed(order_seed)).tolist()
    x, grad = (torch.randn(shape, generator=generator).permute(order) for _ in range(2))
    x = x * 10 ** (4 * torch.rand(x.shape[:-1], generator=generator)[..., None] - 2)
    x = x.permute(order).permute([order.index(i) for i in range(len(order))]) if seed % 2 else x
    if extreme:
        flat = x.view(-1) if x.is_contiguous() else x.reshape(-1)
        values = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38, -3e38, 0.0, -0.0, 1e-42])
        chosen = torch.randint(0, len(values), flat.shape, generator=generator)
        x = torch.where(torch.rand(flat.shape, generator=generator) < 0.1, values[chosen], flat).view(x.shape)
    return x, grad


def torch_form(x, scale, zero, levels, axis=None):
    if axis is not None:
        smallest, extent = vector_range(x, axis)
        scale, zero = scale * extent, zero * extent + smallest
    return _StrictFakeQuantize.apply(x, scale, zero, levels)


def with_gradients(function, x, scale, zero, grad, *arguments):
    leaves = [t.detach().requires_grad_() for t in (x, scale, zero)]
    y = function(*leaves, *arguments)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def same(a, b):
    return torch.equal(a.nan_to_num(7.0, 8.0, 9.0), b.nan_to_num(7.0, 8.0, 9.0)) and a.shape == b.shape


def check_sums(found, x, scale, zero, grad, levels, axis):
    """Compares the gradients of s and Z with the closed form of `fake_quantize` in float64, at the float32 v."""
    smallest, extent = vector_range(x, axis) if axis is not None else (torch.zeros(()), torch.ones(()))
    v = ((x - (zero * extent + smallest)) / (scale * extent)).double()
    clipped, g = v.clamp(0, levels - 1), grad.double() * extent.double()
    inside = (v > 0) & (v < levels - 1)
    for mine, terms in zip(found, (g * torch.where(inside, clipped.round() - clipped, clipped), g * ~inside)):
        allowed = TOLERANCE * terms.abs().sum_to_size(scale.shape) + 1e-30
        assert bool(((mine - terms.sum_to_size(scale.shape)).abs() <= allowed).all())


@settings(max_examples=60)
@given(SHAPES, st.integers(0, 99), st.integers(0, 999), st.integers(2, 8), st.floats(0.01, 2), st.floats(-2, 1))
def test_one_grid(shape, order, seed, bits, scale, zero):
    x, grad = operands(shape, order, seed)
    grid = torch.tensor(scale), torch.tensor(zero)
    mine, other = (with_gradients(f, x, *grid, grad, 2**bits) for f in (fused_fake_quantize, torch_form))
    assert torch.equal(mine[0], other[0]) and torch.equal(mine[1], other[1])
    check_sums(mine[2:], x, *grid, grad, 2**bits, None)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 1100), st.integers(0, 999), st.integers(2, 8))
def test_a_grid_for_each_row(rows, columns, seed, bits):
    x, grad = operands((rows, columns), 0, seed)
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(rows, 1, generator=generator) + 0.01, torch.randn(rows, 1, generator=generator)
    mine, other = (with_gradients(f, x, *grid, grad, 2**bits) for f in (fused_fake_quantize, torch_form))
    assert torch.equal(mine[0], other[0]) and torch.equal(mine[1], other[1])
    check_sums(mine[2:], x, *grid, grad, 2**bits, None)


@settings(max_examples=80)
@given(SHAPES, st.integers(0, 99), st.integers(0, 999), st.integers(2, 8), st.integers(0, 3))
def test_a_grid_for_each_vector(shape, order, seed, bits, axis):
    x, grad = operands(shape, order, seed)
    axis = axis % len(shape)
    grid = torch.tensor(0.8 / (2**bits - 1)), torch.tensor(0.1)
    mine, other = (with_gradients(f, x, *grid, grad, 2**bits, axis) for f in (fused_fake_quantize, torch_form))
    assert torch.equal(mine[0], other[0]) and torch.equal(mine[1], other[1])
    check_sums(mine[2:], x, *grid, grad, 2**bits, axis)


@settings(max_examples=60)
@given(SHAPES, st.integers(0, 999), st.sampled_from([None, 0, -1]))
def test_extreme_values(shape, seed, axis):
    """NaN stays NaN, and makes its whole vector NaN; infinities and huge values are clipped as in torch."""
    x, _ = operands(shape, 0, seed, extreme=True)
    grid = torch.tensor(0.1), torch.tensor(-0.3)
    assert same(fused_fake_quantize(x, *grid, 16, axis), torch_form(x, *grid, 16, axis))


@pytest.mark.parametrize('axis', [None, 0, 1, 2])
@pytest.mark.parametrize('value', [0.0, 3.0, -1e-20, 1e30])
def test_constants(value, axis):
    x = torch.full((5, 9, 17), value)
    grid = torch.tensor(0.05), torch.tensor(0.1)
    assert torch.equal(fused_fake_quantize(x, *grid, 16, axis), torch_form(x, *grid, 16, axis))


@pytest.mark.parametrize('axis', [None, -1])
def test_views_are_read_right_and_kept(axis):
    """Parts of a wider tensor, every second column, and an expanded gradient."""
    wide = torch.randn(30, 128)
    grid = torch.tensor(0.1), torch.tensor(0.0)
    for x in (wide[:, 3:70], wide[:, ::2], wide.T[5:90]):
        copy, grad = x.clone(), torch.ones(()).expand(x.shape)
        mine, other = (with_gradients(f, x, *grid, grad, 16, axis) for f in (fused_fake_quantize, torch_form))
        assert torch.equal(mine[0], other[0]) and torch.equal(mine[1], other[1]) and torch.equal(x, copy)


@pytest.mark.parametrize('shape', [(40, 50, 60), (300, 4097)])
def test_the_number_of_threads_changes_nothing(shape):
    """Exact resuming on another machine size: sums do not depend on the threads."""
    x, grad = operands(shape, 0, 0)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            args = torch.tensor(0.1), torch.tensor(-0.2), grad, 16, -1
            results.append(with_gradients(fused_fake_quantize, x, *args))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize('kind', ['plain', 'rows', 'vectors', 'lsq', 'on grid', 'symmetric'])
def test_quantizers_have_the_same_values_and_gradients(kind, monkeypatch):
    options = {'lsq': {'lsq_gradient': True}, 'on grid': {'zero_on_grid': True}, 'symmetric': {'symmetric': True}}
    quantizer = Quantizer(
        4,
        channels=40 if kind == 'rows' else None,
        vector_axis=-1 if kind == 'vectors' else None,
        **options.get(kind, {}),
    )
    bounds = (torch.tensor([0.1]), torch.tensor([0.9])) if kind == 'vectors' else (-torch.ones(1), torch.ones(1) * 1.4)
    quantizer.set_bounds(*(b.expand(40) if kind == 'rows' else b for b in bounds))
    with torch.no_grad():
        for parameter in (quantizer.lower, quantizer.scale_offset, quantizer.zero_offset):
            parameter += 0.013
    x, grad = operands((40, 130), 0, 1)
    results = []
    for least in (1, 10**9):
        monkeypatch.setattr(fused, 'LEAST', least)
        quantizer.zero_grad()
        leaf = x.detach().requires_grad_()
        y = quantizer(leaf)
        y.backward(grad)
        results.append((y.detach(), leaf.grad, [getattr(quantizer, name).grad.clone() for name in quantizer.learned]))
    (y, grad_x, mine), (other_y, other_grad_x, others) = results
    assert torch.equal(y, other_y) and torch.equal(grad_x, other_grad_x)
    for a, b in zip(mine, others):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(grad.abs().sum()))  # float32 sums in another order


def test_frozen_grids_and_frozen_values_get_no_gradient():
    x, scale, zero = torch.randn(40, 50), torch.tensor(0.1), torch.tensor(-1.0)
    leaf = x.clone().requires_grad_()
    fake_quantize(leaf, scale, zero, 16).sum().backward()
    assert leaf.grad is not None and scale.grad is None
    scale.requires_grad_()
    fake_quantize(x, scale, zero, 16).sum().backward()
    assert scale.grad is not None and x.grad is None


def test_what_the_kernel_does_not_serve():
    x, grid = torch.randn(40, 50), torch.tensor(1.0)
    assert serves(x, grid) and serves(x, torch.ones(40, 1)) and serves(x, grid, 0)
    assert not any(
        (serves(x.double(), grid), serves(x, grid.double()), serves(x.half(), grid), serves(x.to('meta'), grid))
    )
    assert not any((serves(x, torch.ones(1, 50)), serves(x, torch.ones(40, 1), 1), serves(x[:0], grid)))
    with torch._subclasses.FakeTensorMode() as mode:
        assert not serves(mode.from_tensor(x), grid)


def test_tracing_sees_torch_operations():
    quantizer = Quantizer(4)
    quantizer.set_bounds(torch.tensor([-1.0]), torch.tensor([1.0]))
    x = torch.randn(40, 50)
    exported = torch.export.export(quantizer, (x,)).module()
    assert torch.equal(exported(x), quantizer(x))
    assert torch.equal(torch.jit.trace(quantizer, x, check_trace=False)(2 * x), quantizer(2 * x))


def test_double_backward_is_refused():
    x = torch.randn(40, 50, requires_grad=True)
    y = fused_fake_quantize(x, torch.tensor(0.1), torch.tensor(0.0), 16)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


def test_without_kernels_torch_computes(no_kernels):
    x, grid = torch.randn(40, 50), (torch.tensor(0.1), torch.tensor(-1.0))
    assert not serves(x, grid[0])
    assert torch.equal(fake_quantize(x, *grid, 16), torch_form(x, *grid, 16))


def test_a_wrong_kernel_is_not_used(monkeypatch, caplog):
    right = fused._forward

    def wrong(x, *args):
        y, x, call = right(x, *args)
        return y + 1e-7, x, call

    monkeypatch.setattr(fused, '_forward', wrong)
    forget_kernels()
    with caplog.at_level(logging.WARNING):
        assert not fused_is_right() and not serves(torch.randn(40, 50), torch.tensor(1.0))
    assert caplog.records
    monkeypatch.undo()
    forget_kernels()
    assert fused_is_right()
