"""Products of two activations on integer codes: equal to fake quantization at any shape, layout and grid."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from on_codes import on_codes, same
from torch import Tensor, nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.integer import products
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.code_usage import counting_codes
from compsrt_basicsr.quant.operands import explicit_attention, operands_of
from compsrt_basicsr.quant.products import ProductKind, QuantProduct, quantize_products_

pytestmark = pytest.mark.usefixtures('kernel_home')
SIZE = st.integers(1, 40)


def quantized(kind: ProductKind, operands: tuple[Tensor, Tensor], **options: object) -> QuantProduct:
    """A product with bounds that clip some values, frozen."""
    product = QuantProduct(kind, QuantConfig(**options), 'p').eval().requires_grad_(False)
    for quantizer, x, side in zip((product.left_quantizer, product.right_quantizer), operands, ('left', 'right')):
        low, high = (0.0, 1.0) if quantizer.vector_axis is not None or kind.weights == side else (x.min(), x.max())
        low, high = float(low), float(high)
        quantizer.set_bounds(torch.tensor(low), torch.tensor(high - 0.1 * (high - low)))
    return product


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(m=SIZE, n=SIZE, k=SIZE, bits=st.integers(2, 8), tokens=st.booleans(), batch=st.sampled_from([(), (3,), (2, 3)]))
def test_matmul_equals_fake_quantization(
    m: int, n: int, k: int, bits: int, tokens: bool, batch: tuple[int, ...]
) -> None:
    """Any size, on a grid for all or for each vector; sizes that fill no whole vector included."""
    left, right = drawn(*batch, m, k), drawn(*batch, n, k, seed=1).transpose(-2, -1)
    options = {'act_bits': bits, 'act_granularity': 'token' if tokens else 'tensor', 'transform': 'none'}
    product = quantized(ProductKind(), (left, right), **options)
    operands = operands_of(torch.matmul, (left, right), {})
    result, expected = on_codes(product)(operands), product(operands)
    size = 1 + float(expected.abs().max())  # sums of a few values may be nearly 0
    assert result.shape == expected.shape and float((result - expected).abs().max()) <= 1e-5 * size


@given(m=SIZE, n=SIZE, k=SIZE, bits=st.integers(2, 8), side=st.sampled_from(['left', 'right']), tokens=st.booleans())
def test_weights_of_a_softmax_equal_fake_quantization(
    m: int, n: int, k: int, bits: int, side: str, tokens: bool
) -> None:
    left, right = drawn(2, m, k), drawn(2, k, n, seed=1)
    left, right = (left.softmax(-1), right) if side == 'left' else (left, right.softmax(-2))
    options = {'act_bits': bits, 'act_granularity': 'token' if tokens else 'tensor'}
    product = quantized(ProductKind(weights=side), (left, right), **options)
    operands = operands_of(torch.matmul, (left, right), {})
    result, expected = on_codes(product)(operands), product(operands)
    assert float((result - expected).abs().max()) <= 1e-5 * (1 + float(expected.abs().max()))


EQUATIONS = {
    'abik,abjk->abij': ((2, 3, 17, 12), (2, 3, 9, 12)),
    'aikb,ajkb->abij': ((2, 17, 12, 3), (2, 9, 12, 3)),
    'ki,kj->ji': ((30, 5), (30, 11)),
    'aik,kj->aij': ((2, 17, 12), (12, 10)),
    'ik,akj->aij': ((17, 12), (2, 12, 10)),
}


@pytest.mark.parametrize('equation', EQUATIONS)
@pytest.mark.parametrize('transform', ['none', 'auto'])
def test_einsum_of_any_layout(equation: str, transform: str) -> None:
    left, right = (drawn(*shape, seed=seed) for seed, shape in enumerate(EQUATIONS[equation]))
    operands = operands_of(torch.einsum, (equation, left, right), {})
    assert operands is not None
    product = quantized(ProductKind(order=operands.order), (left, right), transform=transform)
    assert same(on_codes(product)(operands), product(operands))
    assert torch.allclose(
        products.matrices_of(equation, left, right).restore(  # type: ignore[union-attr]
            _matrix_product(equation, left, right)
        ),
        torch.einsum(equation, left, right),
        atol=1e-4,
    )


def _matrix_product(equation: str, left: Tensor, right: Tensor) -> Tensor:
    matrices = products.matrices_of(equation, left, right)
    assert matrices is not None
    return matrices.left @ matrices.right.transpose(-2, -1)


def test_linears_strided_operands_and_operands_that_are_broadcast() -> None:
    x, weight = drawn(2, 5, 7, 12)[..., ::2], drawn(9, 6, seed=1)
    product = quantized(ProductKind(constant='right'), (x, weight))
    operands = operands_of(F.linear, (x, weight, drawn(9)), {})
    assert same(on_codes(product)(operands), product(operands))
    left, right = drawn(2, 1, 5, 6), drawn(2, 4, 6, 3)  # computed by fake quantization: the same code
    operands = operands_of(torch.matmul, (left, right), {})
    product = quantized(ProductKind(), (left, right))
    assert torch.equal(on_codes(product)(operands), product(operands))


def test_what_needs_fake_quantization_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = drawn(4, 6), drawn(6, 3)
    product = quantized(ProductKind(), (left, right))
    operands = operands_of(torch.matmul, (left, right), {})
    twin, expected = on_codes(product), product(operands)
    assert not torch.equal(twin(operands), expected)
    with counting_codes(twin) as counts:
        twin(operands)
    assert counts['left_quantizer'].used > 8
    assert torch.equal(twin(operands_of(torch.matmul, (left, right.clone().requires_grad_()), {})), expected)
    assert torch.equal(twin.train()(operands), expected)
    twin.eval()
    monkeypatch.setattr(products, 'LONGEST_SUM', 5)  # sums that might not fit 32 bits
    assert torch.equal(twin(operands), expected)
    monkeypatch.undo()
    monkeypatch.setattr(products, 'kernel_is_right', lambda *size: False)
    assert torch.equal(twin(operands), expected)


def test_products_that_were_moved_since_are_not_read_by_the_kernels() -> None:
    left, right = drawn(4, 6), drawn(6, 3)
    twin = on_codes(quantized(ProductKind(), (left, right)))
    twin(operands_of(torch.matmul, (left, right), {}))
    operands = operands_of(torch.matmul, (left.to('meta'), right.to('meta')), {})
    assert twin.to('meta')(operands).shape == (4, 3)


@pytest.mark.parametrize('columns', [100, 128, 129, 255, 4096])
def test_the_self_test_has_the_blocks_of_large_products(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr(products, 'kernel_is_right', lambda *size: bool(sizes.append(size)))
    products._fits(7, columns)
    ((order, tested),) = sizes
    assert order == 7 and tested <= 131 and tested % 12 == columns % 12


@pytest.mark.parametrize('replicate', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_and_changed_grids(replicate: Callable[[nn.Module], nn.Module]) -> None:
    left, right = drawn(4, 6), drawn(6, 3)
    operands = operands_of(torch.matmul, (left, right), {})
    first = on_codes(quantized(ProductKind(), (left, right)))
    before = first(operands)
    twin = replicate(first)
    assert torch.equal(twin(operands), before)
    twin.left_quantizer.upper.mul_(0.5)
    assert torch.equal(first(operands), before) and not same(twin(operands), before)


@pytest.mark.parametrize(
    ('kind', 'options', 'reason'),
    [
        (ProductKind(joint=True), {}, 'convolutions'),
        (ProductKind(), {'operands': 'weights'}, 'only one operand'),
        (ProductKind(), {'code_range': 'paper'}, 'paper range'),
    ],
)
def test_products_that_cannot_run_on_codes_are_named(kind: ProductKind, options: dict, reason: str) -> None:
    with pytest.raises(CompSRTError, match=reason):
        set_execution_(QuantProduct(kind, QuantConfig(**options), 'p'), 'integer')


def test_without_kernels_products_stay_fake(no_kernels: None) -> None:
    with pytest.raises(CompSRTError, match='kernels only'):
        set_execution_(QuantProduct(ProductKind(), QuantConfig(), 'p'), 'integer')


class Attention(nn.Module):
    """Attention by one function of torch, with heads as views of one tensor."""

    def __init__(self, mask: Tensor | None = None, **options: object) -> None:
        super().__init__()
        self.mask, self.options = mask, options

    def forward(self, qkv: Tensor) -> Tensor:
        """Maps (B, N, 3, heads, d) to (B, heads, N, d)."""
        return F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), self.mask, **self.options)


def attention(qkv: Tensor, mask: Tensor | None = None, options: dict | None = None, **quant: object) -> nn.Module:
    network = Attention(mask, **(options or {})).eval()
    kinds = ProductKind(order=qkv.shape[-1]), ProductKind(weights='left')
    quantize_products_(network, kinds, QuantConfig(**quant), 'attention')
    calibrate(network, qkv, CalibrationConfig(method='minmax'), progress=False)
    return network.requires_grad_(False)


def equal_but_for_moved_codes(result: Tensor, expected: Tensor) -> bool:
    """Most values equal to rounding, all of them near: a weight on the edge of its step may get the next code."""
    assert result.shape == expected.shape
    difference = (result - expected).abs()
    return bool(difference.quantile(0.9) < 1e-5 * expected.abs().max() and difference.norm() < 0.02 * expected.norm())


SHAPES = [(3, 16, 3, 4, 12), (2, 49, 3, 2, 10), (2, 7, 3, 1, 5), (1, 100, 3, 3, 32), (2, 64, 3, 2, 8), (2, 1, 3, 2, 4)]


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the attentions that the kernels compute as a whole."""
    calls: list[int] = []
    run = products.attention

    def counted(*args: object) -> Tensor:
        calls.append(1)
        return run(*args)

    monkeypatch.setattr(products, 'attention', counted)
    return calls


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('masked', ['full', 'heads', 'rows', ''])
@pytest.mark.parametrize('quant', [{}, {'act_bits': 8, 'transform': 'none'}, {'act_granularity': 'token'}])
def test_attention_equals_fake_quantization(shape: tuple[int, ...], masked: str, quant: dict, fused: list[int]) -> None:
    batch, tokens, _, heads, _ = shape
    masks = {
        'full': drawn(batch, heads, tokens, tokens, seed=3).transpose(-2, -1),
        'heads': drawn(heads, tokens, tokens, seed=3),
        'rows': drawn(tokens, 1, seed=3),
    }
    qkv = drawn(*shape)
    network = attention(qkv, masks.get(masked), **quant)
    assert equal_but_for_moved_codes(on_codes(network)(qkv), network(qkv)) and fused


def test_masked_tokens_have_no_weight(fused: list[int]) -> None:
    qkv = drawn(2, 16, 3, 2, 8)
    mask = torch.zeros(16, 16)
    mask[:, 9:] = -torch.inf
    network = attention(qkv, mask)
    twin = on_codes(network)
    expected = twin(qkv)
    assert equal_but_for_moved_codes(expected, network(qkv))
    assert same(twin(qkv * (torch.arange(16) < 9).view(1, 16, 1, 1, 1)), expected) is False  # the queries changed
    changed = qkv.clone()
    changed[:, 9:, 1:] = 0
    assert same(twin(changed), expected) and len(fused) == 3


@pytest.mark.parametrize(
    ('mask', 'options'),
    [(torch.ones(16, 16).tril().bool(), {}), (None, {'is_causal': True}), (drawn(16, 16).double().float().half(), {})],
)
def test_other_attention_runs_as_two_products(mask: Tensor | None, options: dict, fused: list[int]) -> None:
    qkv = drawn(2, 16, 3, 2, 8)
    network = attention(qkv, mask, options)
    result, expected = on_codes(network)(qkv), network(qkv)
    assert equal_but_for_moved_codes(result, expected) and not torch.equal(result, expected) and not fused


def test_nan_stays_in_its_head_and_row() -> None:
    qkv, mask = drawn(2, 16, 3, 2, 8), torch.zeros(16, 16)
    mask[5, 3] = torch.nan
    twin = on_codes(attention(qkv))
    twin.mask = mask
    assert torch.isnan(twin(qkv)).all(-1).sum((0, 1)).tolist() == [4 * (row == 5) for row in range(16)]
    twin.mask = torch.full((16, 16), -torch.inf)
    assert torch.isnan(twin(qkv)).all()
    twin.mask = None
    for part in range(3):
        broken = qkv.clone()
        broken[1, 2, part, 0, 0] = torch.nan
        heads = torch.isnan(twin(broken)).flatten(2)
        assert heads.any(-1).tolist() == [[False, False], [True, False]]


def test_threads_and_autocast_change_nothing() -> None:
    qkv = drawn(5, 16, 3, 2, 8)
    twin = on_codes(attention(qkv))
    expected, threads = twin(qkv), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(twin(qkv), expected)
    finally:
        torch.set_num_threads(threads)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(twin(qkv), expected)
    assert twin(qkv[:0]).shape == (0, 2, 16, 8)


def test_eight_bits_on_codes_are_near_full_precision() -> None:
    qkv, mask = drawn(3, 16, 3, 2, 12), drawn(16, 16, seed=1)
    expected = explicit_attention(*qkv.permute(2, 0, 3, 1, 4), mask)
    twin = on_codes(attention(qkv, mask, act_bits=8))
    assert (twin(qkv) - expected).norm() < 0.02 * expected.norm()
