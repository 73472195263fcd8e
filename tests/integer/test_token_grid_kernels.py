"""Linear layers and convolutions of one pixel with a grid for each token, equalized or not, on integer codes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from on_codes import on_codes, same
from torch import Tensor, nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.integer import cpp_kernels
from compsrt_basicsr.integer.arithmetic import fold_product
from compsrt_basicsr.integer.cpp_kernels import CppLinear
from compsrt_basicsr.integer.execution import integer_linear, set_execution_
from compsrt_basicsr.kernels.loaded import kernels
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.equalization import equalize_
from compsrt_basicsr.quant.functional import affine
from compsrt_basicsr.quant.functional.affine import dequantize, quantize, vector_range
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear

pytestmark = pytest.mark.usefixtures('kernel_home')
GRIDS = {'granularity': 'channel', 'act_granularity': 'token'}
SIZE = st.integers(1, 40)
TOKENS: dict[str, Callable[[Tensor], Tensor]] = {
    'any': lambda x: x,
    'positive': lambda x: x.abs() + 0.5,
    'negative': lambda x: -x.abs() - 0.5,
    'constant': lambda x: x[..., :1].expand_as(x).contiguous(),
    'zeros': torch.zeros_like,
    'of all magnitudes': lambda x: x * 10.0 ** torch.arange(-6, 6)[torch.arange(len(x)) % 12].view(-1, 1),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prepared(layer: nn.Module, x: Tensor) -> nn.Module:
    """Equalizes where the layer is made for it, calibrates, and learns offsets."""
    equalize_(layer, x)
    calibrate(layer, x, CalibrationConfig(candidates=10), progress=False)
    for name, parameter in layer.named_parameters():
        if 'act_quantizer' in name and name.endswith('offset'):
            parameter.data.fill_(0.03)
    return layer.eval().requires_grad_(False)


def linear(order: int, out: int, x: Tensor, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return prepared(QuantLinear(nn.Linear(order, out), QuantConfig(**{**GRIDS, **options})), x)


@given(
    rows=SIZE,
    k=SIZE,
    n=SIZE,
    bits=st.integers(2, 8),
    parts=st.integers(1, 3),
    tokens=st.sampled_from(list(TOKENS)),
    equalized=st.booleans(),
    seed=st.integers(0, 99),
)
def test_kernel_equals_float64(
    rows: int, k: int, n: int, bits: int, parts: int, tokens: str, equalized: bool, seed: int
) -> None:
    """Each token's codes are those of torch, and their product with the weight is that of their values."""
    x = TOKENS[tokens](drawn(rows, k, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (parts, n, k), generator=generator)
    weight_grid = torch.rand((n, 1), generator=generator) + 0.01, torch.randn((n, 1), generator=generator)
    bias = torch.randn(n, generator=generator)
    scale, zero, levels = torch.tensor(0.9 / (2**bits - 1)), torch.tensor(0.05), 2**bits
    equalization = (drawn(k, seed=seed), torch.rand(k, generator=generator) + 0.5) if equalized else None
    products = [fold_product(c.int(), bits, weight_grid, None, bias) for c in codes]
    sides = [(float(scale), float(zero), levels - 1, True)] * parts
    result = CppLinear(kernels(), None, products, sides, equalization)(x)  # type: ignore[arg-type]

    given = x if equalization is None else (x - equalization[0]) / equalization[1]
    smallest, extent = vector_range(given, -1)
    grid = scale * extent, zero * extent + smallest
    values = dequantize(quantize(given, *grid, levels).double(), *(g.double() for g in grid))
    for part, weight_codes in zip(result, codes, strict=True):
        weight = dequantize(weight_codes.double(), *(g.double() for g in weight_grid))
        expected = values @ weight.T + bias.double()
        sizes = values.abs() @ weight.abs().T + values.abs().amax(-1, keepdim=True) * k + bias.abs() + 1e-30
        assert float(((part - expected).abs() / sizes).max()) < 1e-5  # rounding of float32 sums


@pytest.mark.parametrize('transform', ['auto', 'random', 'none'])
@pytest.mark.parametrize('equalize', [False, True])
@pytest.mark.parametrize('bits', [(2, 2), (4, 4), (8, 8)])
@pytest.mark.parametrize('order', [48, 37])
def test_linear_equals_fake_quantization(transform: str, equalize: bool, bits: tuple[int, int], order: int) -> None:
    x = 3 * drawn(3, 21, order) + 1
    options = {'transform': transform, 'equalize': equalize, 'weight_bits': bits[0], 'act_bits': bits[1]}
    layer = linear(order, 24, x, **options)
    fake = layer(x)
    assert same(on_codes(layer)(x), fake)
    assert not torch.equal(on_codes(layer)(x), fake)  # computed on codes
    assert same(integer_linear(layer, 'torch')(x)[0], fake)  # type: ignore[arg-type]


@pytest.mark.parametrize('tokens', TOKENS)
def test_tokens_of_all_kinds(tokens: str) -> None:
    """Row by row, since their magnitudes differ."""
    x = TOKENS[tokens](drawn(30, 29))
    layer = linear(29, 7, drawn(30, 29), transform='none')
    result, fake = on_codes(layer)(x), layer(x)
    assert ((result - fake).abs().amax(1) <= 1e-5 * (x.abs().amax(1) + fake.abs().amax(1))).all()


def test_parts_share_the_range_of_a_token() -> None:
    x = drawn(2, 33, 20)
    torch.manual_seed(0)
    config = QuantConfig(equalize=True, **GRIDS)
    layer = prepared(QuantSplitLinear(nn.Linear(20, 36), config, ('q', 'k', 'v'), joined=True), x)
    layer.get_submodule('k').act_quantizer.vector_axis = None  # one grid for all, beside the others
    calibrate(layer, x, CalibrationConfig(method='minmax'), progress=False)
    assert same(on_codes(layer)(x), layer(x))


@pytest.mark.parametrize('channels', [(48, 16), (5, 9), (37, 24)])
@pytest.mark.parametrize('options', [{}, {'equalize': True, 'transform': 'random'}, {'act_granularity': 'tensor'}])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_convolution_of_one_pixel(channels: tuple[int, int], options: dict, layout: torch.memory_format) -> None:
    x = 2 * drawn(2, channels[0], 11, 13) + 1
    torch.manual_seed(0)
    layer = prepared(QuantConv2d(nn.Conv2d(*channels, 1), QuantConfig(**{**GRIDS, **options})), x)
    x = x.to(memory_format=layout)
    fake, result = layer(x), on_codes(layer)(x)
    assert same(result, fake) and not torch.equal(result, fake)
    assert result.is_contiguous(memory_format=layout)
    assert same(on_codes(layer)(x[:, :, 1:, ::2]), layer(x[:, :, 1:, ::2]))
    with pytest.raises(RuntimeError, match='shape'):
        on_codes(layer)(x[:, 1:])


def test_convolution_in_torch_and_with_quantized_outputs(no_kernels: None) -> None:
    x = drawn(2, 12, 5, 6)
    torch.manual_seed(0)
    layer = prepared(QuantConv2d(nn.Conv2d(12, 8, 1), QuantConfig(quantize_outputs=True, **GRIDS)), x)
    twin = copy.deepcopy(layer)
    assert set_execution_(twin, 'integer').layers == {'': 'torch'}
    changed = (twin(x) - layer(x)).abs() > 1e-5  # an output on the edge of its step may get the next code
    assert changed.float().mean() < 0.01


@pytest.mark.parametrize('kind', [{'stride': 2}, {'padding': 1}, {'groups': 2}])
def test_other_convolutions_stay_fake(kind: dict) -> None:
    net = nn.Sequential(QuantLinear(nn.Linear(4, 4), QuantConfig()))
    net.add_module('conv', QuantConv2d(nn.Conv2d(4, 4, 1, **kind), QuantConfig()))
    assert set_execution_(net, 'integer').layers['conv'].startswith('fake: convolutions')


@pytest.mark.parametrize('shape', [(4, 1, 1), (0, 3, 3), (3, 8, 8)])
def test_threads_and_batches_share_the_pixels(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    batch, *size = shape
    torch.manual_seed(0)
    layer = on_codes(prepared(QuantConv2d(nn.Conv2d(10, 6, 1), QuantConfig(**GRIDS)), drawn(2, 10, 5, 5)))
    x = drawn(batch, 10, *size)
    alone = layer(x)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    assert alone.shape == (batch, 6, *size) and torch.equal(layer(x), alone)


def test_nan_and_infinity_stay_in_their_token() -> None:
    x = drawn(9, 20)
    layer = on_codes(linear(20, 6, x))
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = x.clone()
        broken[3, 5] = value
        assert torch.isnan(layer(broken)).all(1).tolist() == [row == 3 for row in range(9)]


def test_wrong_grids_of_tokens_are_detected(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Kernels that take another extent of a token fail their self-test, with a warning."""
    layer, right = linear(20, 6, drawn(9, 20)), affine.vector_range
    monkeypatch.setattr(affine, 'vector_range', lambda x, axis: (right(x, axis)[0], 1.1 * right(x, axis)[1]))
    cpp_kernels._tokens_are_right.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert set_execution_(layer, 'integer').layers == {'': 'torch'}
        (message,) = caplog.messages
        assert '20 by 6' in message
    finally:
        cpp_kernels._tokens_are_right.cache_clear()


def test_changed_equalization_is_noticed() -> None:
    x = drawn(9, 20)
    layer = linear(20, 6, x, equalize=True)
    twin = on_codes(layer)
    first = twin(x)
    for net in (layer, twin):
        net.input_shift.add_(0.5)
    assert same(twin(x), layer(x)) and not same(twin(x), first)


@pytest.mark.parametrize('options', [{}, {'equalize': True}, {'transform': 'padded'}, {'code_range': 'paper'}])
def test_quantized_weights_alone_are_multiplied_as_floats(options: dict) -> None:
    x = drawn(9, 20) + 1
    torch.manual_seed(0)
    config = QuantConfig(operands='weights', **options)
    layers = nn.Sequential(
        prepared(QuantSplitLinear(nn.Linear(20, 12), config, ('a', 'b'), joined=True), x),
        linear(12, 4, drawn(9, 12)),
    )
    fake = layers[0](x)
    twin = copy.deepcopy(layers)
    assert set_execution_(twin, 'integer').layers == {'0': 'float', '1': 'kernel'}
    assert same(twin[0](x), fake)
