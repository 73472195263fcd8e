"""The C++ kernels: exact integers at every shape, values of the formula, odd sizes, NaN, threads."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.integer import cpp_kernels
from compsrt_basicsr.integer.arithmetic import fold_product
from compsrt_basicsr.integer.cpp_kernels import CppLinear, kernel_is_right
from compsrt_basicsr.kernels.loaded import kernels
from compsrt_basicsr.quant.functional.affine import quantize

pytestmark = pytest.mark.usefixtures('kernel_home')
SIZE = st.integers(1, 70)
UNIT = torch.tensor(1.0), torch.tensor(0.0)  # the grid of the integers


def codes(rows, columns, bits, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**bits, (rows, columns), generator=generator)


@given(m=SIZE, k=SIZE, n=SIZE, bits=st.integers(2, 8), seed=st.integers(0, 99))
def test_product_is_exact(m, k, n, bits, seed):
    """The product of codes equals int64 arithmetic at any shape and bit width."""
    a, w = codes(m, k, bits, seed), codes(n, k, bits, seed + 1) - 2 ** (bits - 1)
    assert torch.equal(cpp_kernels.product(kernels(), a, w.to(torch.int8)).long(), a @ w.T)


@pytest.mark.parametrize('k', [1, 60, 480, 4096])
@pytest.mark.parametrize(('a', 'w'), [(255, -128), (255, 127)])
def test_product_is_exact_at_the_extremes(a, w, k):
    result = cpp_kernels.product(kernels(), torch.full((3, k), a), torch.full((5, k), w, dtype=torch.int8))
    assert result.unique().tolist() == [a * w * k]


@given(rows=SIZE, k=SIZE, n=SIZE, bits=st.integers(2, 8), parts=st.integers(1, 3), seed=st.integers(0, 99))
def test_linear_counts_exactly(rows, k, n, bits, parts, seed):
    """On the grid of the integers, a linear layer without transform is integer arithmetic."""
    a = codes(rows, k, bits, seed)
    weights = [codes(n, k, bits, seed + 1 + p) for p in range(parts)]
    products = [fold_product(w.int(), bits, UNIT, UNIT) for w in weights]
    result = CppLinear(kernels(), None, products, [(1.0, 0.0, 2**bits - 1, False)] * parts)(a.float())
    assert [torch.equal(r.long(), a @ w.T) for r, w in zip(result, weights)] == [True] * parts


@given(k=SIZE, bits=st.integers(2, 8), seed=st.integers(0, 999))
def test_codes_are_those_of_quantize(k, bits, seed):
    """Rounding and clamping equal `quantize` in every code, including halves and outliers."""
    generator = torch.Generator().manual_seed(seed)
    scale, zero = torch.rand((), generator=generator) + 0.01, torch.randn((), generator=generator)
    x = torch.randn(5, k, generator=generator) * scale * 2**bits
    x[0] = zero + scale * (torch.arange(k) - 2.5)  # halves
    x[1, ::2], x[1, 1::2] = torch.inf, -torch.inf
    products = [
        fold_product(torch.eye(k).int() + 2 ** (bits - 1), bits, (UNIT[0], -torch.tensor(2.0 ** (bits - 1))), UNIT)
    ]
    result = CppLinear(kernels(), None, products, [(float(scale), float(zero), 2**bits - 1, False)])(x)[0]
    assert torch.equal(result, quantize(x, scale, zero, 2**bits))


def linear(n=24, k=60, bits=4):
    generator = torch.Generator().manual_seed(1)
    grids = (torch.tensor(0.1), torch.tensor(-0.7)), (torch.tensor(0.3), torch.tensor(-2.2))
    product = fold_product(codes(n, k, bits).int(), bits, *grids, torch.randn(n, generator=generator))
    return CppLinear(kernels(), None, [product], [(0.3, -2.2, 15, False)])


@pytest.mark.parametrize('rows', [0, 1, 7, 8, 63, 64, 65, 200])
def test_every_number_of_rows(rows):
    layer, x = linear(), torch.randn(200, 60, generator=torch.Generator().manual_seed(2))
    result = layer(x[:rows])
    assert result.shape == (1, rows, 24)
    assert torch.equal(result, layer(x)[:, :rows])


def test_shape_and_strides_of_the_input_do_not_matter():
    layer, x = linear(), torch.randn(60, 5, 7, generator=torch.Generator().manual_seed(2))
    strided = x.permute(1, 2, 0)
    assert torch.equal(layer(strided), layer(strided.reshape(35, 60)).view(1, 5, 7, 24))


def test_threads_share_the_rows(monkeypatch):
    layer, x = linear(), torch.randn(1001, 60)
    alone = layer(x)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    assert torch.equal(layer(x), alone)


def test_nan_stays_in_its_row():
    layer, x = linear(), torch.zeros(9, 60)
    x[3, 59] = torch.nan
    assert torch.isnan(layer(x)[0]).all(1).nonzero().flatten().tolist() == [3]
    assert torch.isnan(layer(x)[0]).any(1).nonzero().flatten().tolist() == [3]


def test_handles_free_their_memory(monkeypatch):
    freed = []

    class Library:
        cs_thing_new = staticmethod(lambda: 7)
        cs_thing_free = staticmethod(freed.append)

    handle = cpp_kernels.CppHandle(Library(), 'thing')
    assert freed == []
    del handle
    assert freed == [7]


def test_wrong_kernels_are_detected(monkeypatch, caplog):
    """A library whose product saturates fails its self-test, with a warning."""
    right = cpp_kernels.product
    monkeypatch.setattr(cpp_kernels, 'product', lambda library, a, w: right(library, a, w).clamp(-(2**15), 2**15 - 1))
    kernel_is_right.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert not kernel_is_right(60, 24)
        (message,) = caplog.messages
        assert '60 by 24' in message
    finally:
        kernel_is_right.cache_clear()
