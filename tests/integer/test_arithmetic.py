"""Products on codes: folded terms against float64, exactness against int64, the fallback if int8 is wrong."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.integer import arithmetic as integer
from compsrt_basicsr.integer.arithmetic import fold_product, int8_product_is_right, integer_product
from compsrt_basicsr.quant.functional.affine import dequantize

BITS = st.integers(2, 8)
SIZE = st.integers(1, 70)


def codes(rows, columns, bits, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**bits, (rows, columns), generator=generator)


@given(rows=SIZE, k=SIZE, n=SIZE, bits=BITS, seed=st.integers(0, 99))
def test_product_is_exact(rows, k, n, bits, seed):
    """The product of codes of any bit width equals int64 arithmetic."""
    a, w = codes(rows, k, bits, seed), codes(n, k, bits, seed + 1) - 2 ** (bits - 1)
    assert torch.equal(integer_product(a.float(), w.to(torch.int8)).long(), a @ w.T)


def test_product_of_stacks_is_exact_at_the_extremes():
    a, w = torch.full((2, 3, 7, 600), 255.0), torch.full((2, 3, 5, 600), -128.0)  # sums beyond 2^24
    assert torch.equal(integer_product(a, w), torch.full((2, 3, 7, 5), -128 * 255 * 600.0))


@given(k=SIZE, n=SIZE, bits=BITS, act_bits=BITS, channel=st.booleans(), biased=st.booleans(), seed=st.integers(0, 99))
def test_folded_product_is_the_product_of_the_values(k, n, bits, act_bits, channel, biased, seed):
    """Folding grids and bias gives the same as dequantizing both operands in float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, 1) if channel else ()
    weight_grid = torch.rand(shape, generator=generator) + 0.01, torch.randn(shape, generator=generator)
    act_grid = torch.rand((), generator=generator) + 0.01, torch.randn((), generator=generator)
    bias = torch.randn(n, generator=generator) if biased else None
    a, w = codes(9, k, act_bits, seed), codes(n, k, bits, seed + 1)

    left = dequantize(a.double(), *(g.double() for g in act_grid))
    right = dequantize(w.double(), *(g.double() for g in weight_grid))
    expected = left @ right.T + (0 if bias is None else bias.double())
    result = fold_product(w.int(), bits, weight_grid, act_grid, bias).apply(a.float())
    # float32: three rounded terms of the size of the largest one
    size = float((left.abs() @ right.abs().T).max()) + 4
    assert (result - expected).abs().max() < 1e-6 * size


@pytest.fixture
def wrong_int8(monkeypatch):
    """A machine whose int8 product saturates at 16 bits, as vpmaddubsw does."""
    monkeypatch.setattr(torch, '_int_mm', lambda a, b: (a.int() @ b.int()).clamp(-(2**15), 2**15 - 1))
    int8_product_is_right.cache_clear()
    yield
    int8_product_is_right.cache_clear()


def test_wrong_int8_product_is_detected_and_avoided(wrong_int8, caplog):
    a, w = torch.full((3, 60), 255.0), torch.full((4, 60), 127, dtype=torch.int8)
    with caplog.at_level(logging.WARNING):
        assert integer_product(a, w).unique().item() == 255 * 127 * 60
    (message,) = caplog.messages
    assert 'int8' in message and '60 by 4' in message


def test_missing_int8_product_is_not_an_error(monkeypatch, caplog):
    def missing(a, b):
        raise NotImplementedError

    monkeypatch.setattr(torch, '_int_mm', missing)
    int8_product_is_right.cache_clear()
    try:
        assert integer_product(torch.ones(2, 5), torch.ones(3, 5, dtype=torch.int8)).unique().item() == 5
        assert not caplog.messages
    finally:
        int8_product_is_right.cache_clear()


def test_self_test_covers_the_ends_of_the_range():
    operands = integer.self_test_operands(4, 3)
    assert {(a.max().item(), w.min().item()) for a, w in operands} >= {(255.0, -128), (255.0, 127), (0.0, -128)}
