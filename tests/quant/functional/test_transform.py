"""Orthogonal transforms as matrices: orthonormal rows, the published padded form, DCT, seeds, cache."""

import pytest
import scipy.fft
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.hadamard import conference_exists, hadamard_construction
from compsrt_basicsr.quant.functional.transform import TRANSFORMS, resolve_transform, transform_matrix

ORDERS = [1, 2, 3, 5, 6, 7, 8, 10, 12, 16, 22, 30, 31, 36, 60, 64, 90, 120, 180, 240, 256]


def exists(kind, order):
    if kind == 'hadamard':
        return hadamard_construction(order) is not None
    return conference_exists(order) if kind == 'conference' else True


@pytest.mark.parametrize(
    ('kind', 'order'), [(k, n) for k in TRANSFORMS for n in ORDERS if exists(k, n)], ids=lambda v: str(v)
)
def test_rows_are_orthonormal(kind, order):
    """1e-12: some hundred products of float64, each 1e-16 off."""
    t = transform_matrix(kind, order, seed=3)
    assert t.shape[0] == order and t.dtype == torch.float64
    assert (t.shape[1] == order) or (kind == 'padded' and t.shape[1] < 2 * order)
    assert (t @ t.T - torch.eye(order, dtype=torch.float64)).abs().max() < 1e-12


@given(st.sampled_from(TRANSFORMS), st.sampled_from(ORDERS), st.integers(0, 99))
def test_products_do_not_change(kind, order, seed):
    """(x T)(w T)^T = x w^T for every kind and order; 1e-11: float64 sums of up to 256 numbers of size 1."""
    if not exists(kind, order):
        return
    generator = torch.Generator().manual_seed(seed)
    x, w = (torch.randn(n, order, dtype=torch.float64, generator=generator) for n in (5, 4))
    t = transform_matrix(kind, order, seed)
    assert torch.allclose((x @ t) @ (w @ t).T, x @ w.T, rtol=0, atol=1e-11)


@pytest.mark.parametrize(('order', 'padded'), [(10, 16), (60, 64), (64, 64), (120, 128), (1, 1), (65, 128)])
def test_padded_is_zero_padding_and_the_full_sylvester_transform(order, padded):
    """1e-12: the same sums in another order."""
    x = torch.randn(7, order, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full = torch.tensor(scipy.linalg.hadamard(padded), dtype=torch.float64) / padded**0.5
    literal = torch.nn.functional.pad(x, (0, padded - order)) @ full
    assert torch.allclose(x @ transform_matrix('padded', order), literal, rtol=0, atol=1e-12)


@pytest.mark.parametrize('order', [1, 2, 7, 10, 60, 120])
def test_dct_equals_scipy(order):
    """1e-12: another algorithm for the same sums."""
    x = torch.randn(3, order, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(scipy.fft.dct(x.numpy(), norm='ortho'))
    assert torch.allclose(x @ transform_matrix('dct', order), expected, rtol=0, atol=1e-12)


def test_random_depends_on_the_seed():
    transform_matrix.cache_clear()
    first = transform_matrix('random', 12, seed=1).clone()
    transform_matrix.cache_clear()
    torch.rand(3)  # the global generator plays no part
    assert torch.equal(transform_matrix('random', 12, seed=1), first)
    assert not torch.allclose(transform_matrix('random', 12, seed=2), first)


def test_random_does_not_use_the_global_generator():
    transform_matrix.cache_clear()
    before = torch.get_rng_state()
    transform_matrix('random', 12, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_none_is_the_identity():
    assert torch.equal(transform_matrix('none', 9), torch.eye(9, dtype=torch.float64))


def test_matrices_are_cached():
    assert transform_matrix('auto', 60) is transform_matrix('auto', 60)
    assert transform_matrix('auto', 60, dtype=torch.float32) is transform_matrix('auto', 60, dtype=torch.float32)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_are_the_float64_matrix_rounded(dtype):
    t = transform_matrix('random', 20, dtype=dtype)
    assert t.dtype == dtype
    assert torch.equal(t, transform_matrix('random', 20).to(dtype))


def test_other_devices():
    t = transform_matrix('hadamard', 12, device='meta')
    assert t.device.type == 'meta' and t.shape == (12, 12)


@pytest.mark.parametrize(
    ('order', 'kind'), [(60, 'hadamard'), (64, 'hadamard'), (120, 'hadamard'), (10, 'conference'), (7, 'dct')]
)
def test_auto(order, kind):
    assert resolve_transform('auto', order) == kind
    assert torch.equal(transform_matrix('auto', order), transform_matrix(kind, order))


@pytest.mark.parametrize(('order', 'block'), [(60, 20), (120, 20), (180, 20), (96, 16), (48, 16), (36, 12), (16, 16)])
def test_blocks_are_hadamard_matrices_along_the_diagonal(order, block):
    assert resolve_transform('blocks', order) == 'blocks'
    t = transform_matrix('blocks', order).reshape(order // block, block, order // block, block)
    for i in range(order // block):
        for j in range(order // block):
            expected = transform_matrix('hadamard', block) if i == j else torch.zeros(block, block)
            assert torch.equal(t[i, :, j], expected.double())


@pytest.mark.parametrize(
    ('order', 'kind'), [(8, 'hadamard'), (28, 'hadamard'), (10, 'conference'), (30, 'conference'), (7, 'dct')]
)
def test_orders_without_blocks_are_transformed_as_a_whole(order, kind):
    assert resolve_transform('blocks', order) == kind
    assert torch.equal(transform_matrix('blocks', order), transform_matrix('auto', order))


def test_errors():
    with pytest.raises(CompSRTError, match=r"`transform` must be one of .*'hadamrd'.* Did you mean `hadamard`\?"):
        transform_matrix('hadamrd', 8)
    with pytest.raises(CompSRTError, match='at least 1, got 0'):
        transform_matrix('none', 0)
    with pytest.raises(CompSRTError, match=r'order 10 .* or use the transform `conference`'):
        transform_matrix('hadamard', 10)
