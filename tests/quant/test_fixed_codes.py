"""Layers that compute from stored codes."""

import copy

import pytest
import torch
from torch import nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import quantizers


def ready(layer):
    torch.manual_seed(0)
    nn.init.normal_(layer.weight)
    for quantizer in quantizers(layer).values():
        quantizer.set_bounds(torch.full(quantizer.lower.shape, -2.0), torch.full(quantizer.upper.shape, 2.0))
    return layer.eval().requires_grad_(False)


LAYERS = {
    'linear': lambda **q: ready(QuantLinear(nn.Linear(12, 6), QuantConfig(**q))),
    'split': lambda **q: ready(QuantSplitLinear(nn.Linear(12, 6), QuantConfig(**q), ('q', 'k', 'v'))),
    'conv': lambda **q: ready(QuantConv2d(nn.Conv2d(12, 6, 3, padding=1), QuantConfig(**q))),
}


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize(
    'quant',
    [{}, {'granularity': 'channel'}, {'transform': 'none'}, {'transform': 'padded', 'code_range': 'paper'}],
    ids=str,
)
def test_fixed_codes_give_the_output_of_the_weight(kind, quant):
    layer = LAYERS[kind](**quant)
    x = torch.rand(2, 12, 5, 4) if kind == 'conv' else torch.rand(2, 5, 12)
    before, codes = layer(x), layer.weight_codes()
    layer.fix_codes(codes.clone())
    after = layer(x)
    assert torch.equal(layer.weight_codes(), codes) and layer.weight_codes().dtype == torch.int32
    pairs = zip(before, after) if isinstance(before, list) else [(before, after)]
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize('kind', LAYERS)
def test_weight_takes_the_values_of_the_codes(kind):
    """Transformed again it gives the dequantized codes, up to float32."""
    layer = LAYERS[kind]()
    layer.fix_codes(layer.weight_codes().to(torch.uint8))
    dense = torch.cat(layer.quantized_weights())
    assert torch.allclose(layer.transformed_weight(), dense, rtol=0, atol=1e-5)


def test_fixed_codes_replace_the_weight():
    layer = LAYERS['linear']()
    codes = layer.weight_codes().to(torch.uint8).flip(0)
    layer.fix_codes(codes)
    layer.weight.zero_()
    assert torch.equal(layer.weight_codes(), codes.int()) and bool(torch.cat(layer.quantized_weights()).any())


def test_copies_keep_the_codes_and_loading_a_weight_drops_them():
    layer = LAYERS['linear']()
    state = copy.deepcopy(layer.state_dict())
    codes = layer.weight_codes()
    layer.fix_codes(codes.flip(0))
    assert torch.equal(copy.deepcopy(layer).weight_codes(), codes.flip(0))
    assert 'fixed_codes' not in layer.state_dict()
    layer.load_state_dict(state)
    assert layer.fixed_codes is None and torch.equal(layer.weight_codes(), codes)


def test_grids_still_train_on_fixed_codes():
    layer = LAYERS['linear']()
    layer.fix_codes(layer.weight_codes())
    layer.weight_quantizer.requires_grad_(True)
    layer(torch.rand(3, 12)).sum().backward()
    assert layer.weight_quantizer.scale_offset.grad.abs() > 0
