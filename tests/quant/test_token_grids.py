"""One grid for each vector of activations (`act_granularity: token`)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.code_usage import counting_codes
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.layers import QuantLinear
from compsrt_basicsr.quant.products import ProductKind, QuantProduct, operands_of
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers

TOKEN = QuantConfig(act_granularity='token', transform='none')


def by_token(bits: int = 4, axis: int = -1, lower: float = 0.1, upper: float = 0.9) -> Quantizer:
    quantizer = Quantizer(bits, vector_axis=axis)
    quantizer.set_bounds(torch.tensor([lower]), torch.tensor([upper]))
    return quantizer


def tokens(*shape: int, seed: int = 0) -> Tensor:
    """Tokens whose lengths differ by orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator)
    return x * 10 ** torch.rand(*shape[:-1], 1, generator=generator).mul(4).sub(2)


@given(st.integers(2, 8), st.integers(1, 20), st.integers(0, 100))
def test_each_vector_has_at_most_its_levels_between_its_bounds(bits: int, width: int, seed: int) -> None:
    x = tokens(6, width, seed=seed)
    y = by_token(bits)(x)
    smallest, largest = x.aminmax(dim=-1, keepdim=True)
    lower, upper = smallest + 0.1 * (largest - smallest), smallest + 0.9 * (largest - smallest)
    clipped = x.clamp(lower, upper)
    slack = 1e-5 * x.abs().amax(-1, keepdim=True)
    assert all(len(row.unique()) <= 2**bits for row in y)
    assert bool(((y - clipped).abs() <= (upper - lower) / (2**bits - 1) / 2 + slack).all())


@given(st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_codes_do_not_change_with_scale_and_offset_of_a_vector(factor: float, offset: float) -> None:
    x = tokens(5, 16).double()
    moved = (x * factor + offset * factor * x.abs().amax(-1, keepdim=True)).float()
    codes, other = by_token(4).codes(x.float()), by_token(4).codes(moved)
    assert (codes - other).abs().max() <= 1 and (codes != other).float().mean() < 0.1  # ties move


def test_constant_vectors_stay() -> None:
    x = torch.tensor([[3.0] * 8, [0.0] * 8, [-1e-20] * 8])
    assert torch.allclose(by_token()(x), x, rtol=1e-5, atol=1e-7)


def test_gradients_are_those_of_the_closed_form() -> None:
    """As `fake_quantize`, with step s_t = s e_t and zero point Z_t = Z e_t + m_t of each vector."""
    quantizer, x = by_token(3), tokens(7, 12).requires_grad_()
    weight = torch.randn(7, 12, generator=torch.Generator().manual_seed(1))
    (quantizer(x) * weight).sum().backward()
    v0, w = x.detach().double(), weight.double()
    smallest, largest = v0.aminmax(dim=-1, keepdim=True)
    extent, top, unit = largest - smallest, 7, quantizer.unit.double()
    scale, zero = (g.detach().double() for g in quantizer.grid())
    v = (v0 - zero * extent - smallest) / (scale * extent)
    inside, above = ((v > 0) & (v < top)).double(), (v >= top).double()
    by_scale = (w * ((v.round() - v) * inside + top * above) * extent).sum() * unit
    by_zero = (w * (1 - inside) * extent).sum() * unit
    found = {name: getattr(quantizer, name).grad.double() for name in quantizer.learned}
    for name, value in {
        'upper': by_scale / top,
        'lower': by_zero - by_scale / top,
        'scale_offset': by_scale,
        'zero_offset': by_zero,
    }.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-4 * float(by_scale.abs())), name
    assert x.grad is not None and torch.allclose(x.grad.double(), w * inside, atol=1e-5)


@pytest.mark.parametrize('kind', ['linear', 'conv'])
def test_tokens_of_different_lengths_are_nearer_with_own_grids(kind: str) -> None:
    torch.manual_seed(0)
    x = tokens(1, 64, 16)
    exact: nn.Module = nn.Linear(16, 8)
    images = x
    if kind == 'conv':
        exact, images = nn.Conv2d(16, 8, 1), x.view(1, 8, 8, 16).permute(0, 3, 1, 2)
    errors = {}
    for granularity in ('tensor', 'token'):
        config = TOKEN.replace(act_granularity=granularity, weight_bits=8)
        layer = (QuantLinear if kind == 'linear' else QuantConv2d)(exact, config, 'layer')
        calibrate(layer, images, CalibrationConfig(), progress=False)
        wanted, found = (f(images).movedim(1 if kind == 'conv' else -1, -1).flatten(0, -2) for f in (exact, layer))
        errors[granularity] = float((((found - wanted) ** 2).mean(-1) / (wanted**2).mean(-1)).detach().log().mean())
        with counting_codes(layer) as counts:
            layer(images)
        assert all(count.used <= 16 for count in counts.values() if count.bits == 4)
    assert errors['token'] < errors['tensor'] - 1


def test_a_depthwise_convolution_keeps_one_grid() -> None:
    quantizer = QuantConv2d(nn.Conv2d(4, 4, 3, groups=4), TOKEN, 'conv').act_quantizer
    assert isinstance(quantizer, Quantizer) and quantizer.vector_axis is None


def test_a_convolution_is_the_sum_of_one_product_of_codes_for_each_position() -> None:
    torch.manual_seed(0)
    x, conv = tokens(1, 36, 5).view(1, 6, 6, 5).permute(0, 3, 1, 2), nn.Conv2d(5, 7, 3, padding=1)
    layer = QuantConv2d(conv, TOKEN, 'conv')
    calibrate(layer, x, CalibrationConfig(candidates=10), progress=False)
    act = layer.act_quantizer
    assert isinstance(act, Quantizer)
    codes, (step, zero) = act.codes(x).double(), act.grid_on(x)
    assert codes.max() <= 15 and step.shape == (1, 1, 6, 6)
    (weight,) = layer.quantized_weights()
    total = torch.zeros(1, 7, 8, 8, dtype=torch.float64)
    for row in range(3):
        for column in range(3):
            tap = weight[:, :, row, column].double()
            product = torch.einsum('oc,bchw->bohw', tap, codes) * step + zero * tap.sum(1)[None, :, None, None]
            total[:, :, 2 - row : 8 - row, 2 - column : 8 - column] += product
    assert torch.allclose(layer(x).double(), total[:, :, 1:-1, 1:-1] + conv.bias.view(1, -1, 1, 1), atol=1e-4)


def test_operands_of_a_product_have_grids_along_the_contracted_dimension() -> None:
    a, b = tokens(2, 5, 12), tokens(2, 7, 12, seed=1)
    product = QuantProduct(ProductKind(), TOKEN.replace(act_bits=8), 'p')
    for quantizer in quantizers(product).values():
        quantizer.set_bounds(torch.zeros(1), torch.ones(1))
    left, right = by_token(8, lower=0, upper=1)(a), by_token(8, lower=0, upper=1)(b)
    for function, args in ((torch.matmul, (a, b.mT)), (torch.einsum, ('b i d, b j d -> b i j', a, b))):
        operands = operands_of(function, args, {})
        assert operands is not None
        assert torch.allclose(product(operands), left @ right.mT, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'conflict',
    [{'code_range': 'paper'}, {'symmetric': 'both'}, {'zero_point': 'integer'}],
    ids=lambda conflict: next(iter(conflict)),
)
def test_grids_that_cannot_follow_a_vector_are_refused(conflict: dict[str, str]) -> None:
    with pytest.raises(CompSRTError, match='act_granularity'):
        QuantConfig.from_opt({'act_granularity': 'token', **conflict})


def test_a_convolution_with_a_computed_kernel_keeps_one_grid() -> None:
    product = QuantProduct(ProductKind(joint=True), TOKEN, 'p')
    assert all(quantizer.vector_axis is None for quantizer in quantizers(product).values())
