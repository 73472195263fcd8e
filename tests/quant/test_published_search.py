"""The bounds of the paper range: a search on what the published code sees, done directly in float64."""

import copy
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from tiny_networks import TINY, tiny_swinir

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.bounds import search_bounds
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.layers import QuantLinear
from compsrt_basicsr.quant.quantizer import quantizers

PAPER = {'code_range': 'paper', 'transform': 'padded'}
WIDTHS = [12, 16, 20]  # heads of 6, 8, 10 and MLPs of 24, 32, 40: all padded, none padded, all padded
X = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))  # one window: no tensor needs a histogram


def power_of_two(n):
    return 2 ** max(n - 1, 0).bit_length()


def transformed(x):
    """The last dimension, padded with zeros, times the Sylvester matrix."""
    n = power_of_two(x.shape[-1])
    return F.pad(x, (0, n - x.shape[-1])) @ torch.tensor(scipy.linalg.hadamard(n) / n**0.5)


def seen_activation(x, published):
    return transformed(x)[..., : x.shape[-1]] if published else transformed(x)


def seen_weight(weight, published):
    rows = power_of_two(len(weight)) - len(weight)
    return transformed(F.pad(weight, (0, 0, 0, rows)) if published else weight)


def best_pairs(values, bits, candidates=100):
    """The pairs of least squared error, from method.md's definition, the best first: float32 cannot tell them apart."""
    values = values.flatten()
    low, high = values.min(), values.max()
    errors = []
    for i in range(candidates):
        lower, upper = (end + sign * i * (high - low) / (2 * candidates) for end, sign in ((low, 1), (high, -1)))
        step = (upper - lower) / (2**bits - 1)
        codes = torch.round((values.clip(lower, upper) - lower) / step)
        errors.append((float((step * codes + lower - values).square().sum()), float(lower), float(upper)))
    errors.sort()
    return [pair for error, *pair in errors if error <= errors[0][0] * (1 + 1e-5)]


def tensors_of(network, published):
    """What the search sees of each tensor of a full-precision SwinIR, by the name of its quantizer."""
    network, found = copy.deepcopy(network).double(), {}

    def look(layer, inputs):
        name = names[layer]
        parts = zip((f'{name}.{p}' for p in 'qkv'), layer.weight.chunk(3)) if 'qkv' in name else [(name, layer.weight)]
        for part, weight in parts:
            found[f'{part}.weight_quantizer'] = seen_weight(weight.detach(), published)
            found[f'{part}.act_quantizer'] = seen_activation(inputs[0], published)

    def attend(attention, *io):
        found[f'{names[attention]}.attn_quantizer'] = seen_activation(io[-1], published)

    def split(attention, *io):
        q, k, v = io[-1].unflatten(-1, (3, attention.num_heads, -1)).unbind(-3)
        for operand, x in (('q', q * attention.scale), ('k', k), ('v', v)):
            found[f'{names[attention]}.{operand}_quantizer'] = seen_activation(x, published)

    names = {module: name for name, module in network.named_modules()}
    for module in names:
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(look)
        if hasattr(module, 'relative_position_bias_table'):
            module.qkv.register_forward_hook(partial(split, module))
            module.softmax.register_forward_hook(partial(attend, module))
    with torch.no_grad():
        network(X.double())
    return found


def calibrated(width, bits, **quant):
    network = CompSRTSwinIR(**{**TINY, 'embed_dim': width}, quant={'weight_bits': bits, 'act_bits': bits, **quant})
    network.load_state_dict(tiny_swinir(embed_dim=width).state_dict())
    calibrate(network, X, CalibrationConfig(search='two'), progress=False)
    return network


def differing(network, tensors, bits):
    """The quantizers whose bounds are not a best pair, to 1e-5 of the range as float32 allows."""
    differ = []
    for name, quantizer in quantizers(network).items():
        found = [bound.item() for bound in quantizer.bounds()]
        pairs = best_pairs(tensors[name], bits)
        if not any(np.allclose(found, pair, rtol=0, atol=1e-5 * (pair[1] - pair[0])) for pair in pairs):
            differ.append(name)
    return differ


@pytest.mark.parametrize('bits', [2, 4])
@pytest.mark.parametrize('width', WIDTHS)
def test_bounds_are_those_of_the_published_search(width, bits):
    network = calibrated(width, bits, **PAPER)
    teacher = tiny_swinir(embed_dim=width)
    assert len(quantizers(network)) == 32
    assert differing(network, tensors_of(teacher, published=True), bits) == []
    elsewhere = differing(network, tensors_of(teacher, published=False), bits)
    assert (not elsewhere) if width == 16 else len(elsewhere) > 10


@pytest.mark.parametrize('width', WIDTHS)
def test_strict_range_sees_what_is_quantized(width):
    """All coefficients and no others."""
    network = calibrated(width, 4, transform='padded')
    tensors = tensors_of(tiny_swinir(embed_dim=width), published=False)
    assert differing(network, tensors, 4) == []


def test_convolutions_are_cropped_along_their_channels():
    """6 of 8 channels of the input, and 5 rows of weights with 3 of zeros."""
    conv = torch.nn.Conv2d(6, 5, 3)
    layer = QuantConv2d(conv, QuantConfig(**PAPER))
    x = torch.randn(1, 6, 9, 9)
    calibrate(layer, x, CalibrationConfig(search='two'), progress=False)
    channels = transformed(x.double().movedim(1, -1))[..., :6]
    weight = transformed(F.pad(conv.weight.double(), (0, 0, 0, 0, 0, 0, 0, 3)).movedim(1, -1))
    for quantizer, values in ((layer.act_quantizer, channels), (layer.weight_quantizer, weight)):
        assert [b.item() for b in quantizer.bounds()] == pytest.approx(best_pairs(values.detach(), 4)[0], rel=1e-5)


def test_pruned_weights_are_searched_on_kept_coefficients():
    """The rows of zeros are pruned in the published code, too; without a pruned coefficient they count."""
    layer = QuantLinear(torch.nn.Linear(6, 5), QuantConfig(**PAPER, prune_ratio=0.4))
    weight, config = layer.dense_weight().detach(), CalibrationConfig(search='two')
    keep = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) > 0.4
    for mask, values in ((keep, weight[keep]), (torch.ones_like(keep), F.pad(weight, (0, 0, 0, 3)))):
        found = search_bounds(weight, layer.weight_quantizer, config, mask)
        assert [float(b) for b in found] == pytest.approx(best_pairs(values.double(), 4)[0], rel=1e-5)


@pytest.mark.parametrize('method', ['minmax', 'percentile', 'lsq'])
def test_other_searches_see_the_whole_tensor(method):
    layer = QuantLinear(torch.nn.Linear(6, 5), QuantConfig(**PAPER))
    plain = QuantLinear(torch.nn.Linear(6, 5), QuantConfig(transform='padded'))
    x, config = torch.randn(40, 8), CalibrationConfig(method=method)
    assert search_bounds(x, layer.act_quantizer, config) == search_bounds(x, plain.act_quantizer, config)


@pytest.mark.parametrize('quant', [{'transform': 'none'}, {'transform': 'auto'}, {**PAPER, 'granularity': 'channel'}])
def test_nothing_else_is_changed(quant):
    """Other transforms pad nothing, and one grid per channel has no channel of zeros."""
    layer = QuantLinear(torch.nn.Linear(6, 5), QuantConfig(**{'code_range': 'paper', **quant}))
    assert layer.weight_quantizer.search_view is None
    assert (layer.act_quantizer.search_view is None) == (quant['transform'] != 'padded')
