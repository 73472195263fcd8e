"""Equalization: exact in full precision, optimal scales, and what packs, exports and loads."""

import copy

import pytest
import torch
from tiny_networks import tiny_edsr, tiny_quantized
from torch import nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.packing.packed import load_packed, save_packed
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.equalization import equalize_, optimal_scale
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.observation import observing

CHANNELS = 10


class Alone(nn.Module):
    """A network of one layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


CONVOLUTIONS = {
    'plain': {'padding': 1},
    'strided': {'stride': 2, 'padding': (2, 1)},
    'same': {'padding': 'same', 'dilation': 2},
    'reflected': {'padding': 1, 'padding_mode': 'reflect'},
    'grouped': {'padding': 1, 'groups': 2},
    'depthwise': {'padding': 1, 'groups': CHANNELS},
    'unbiased': {'padding': 1, 'bias': False},
}
LAYERS = {
    **{name: lambda options=options: nn.Conv2d(CHANNELS, 20, 3, **options) for name, options in CONVOLUTIONS.items()},
    'pointwise': lambda: nn.Conv2d(CHANNELS, 6, 1),
    'transposed': lambda: nn.ConvTranspose2d(CHANNELS, 6, 3, 2, 1, 1),
    'transposed in groups': lambda: nn.ConvTranspose2d(CHANNELS, 6, 3, 2, 1, groups=2, bias=False),
    'linear': lambda: nn.Linear(CHANNELS, 6),
    'unbiased linear': lambda: nn.Linear(CHANNELS, 6, bias=False),
}


def example(kind):
    """A layer, and inputs whose channels have different means and deviations."""
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    x = (torch.randn(3, 12, 9, CHANNELS) + torch.linspace(-2, 3, CHANNELS)) * torch.logspace(-1.5, 1.5, CHANNELS)
    return layer, x if isinstance(layer, nn.Linear) else x.movedim(-1, 1)


def quantized(layer, **options):
    network = Alone(copy.deepcopy(layer))
    options = {'quantize_convs': True, 'quantize_head_tail': True, 'equalize': True, **options}
    quantize_(network, QuantConfig(**options))
    return network


def unquantized(network, x):
    """Returns the output while an observer looks, which is that while nobody looks."""
    with observing(network, lambda quantizer, value: None), torch.no_grad():
        seen = network(x)
    with observing(network), torch.no_grad():
        torch.testing.assert_close(network(x), seen, rtol=1e-4, atol=1e-4)
    return seen


@pytest.mark.parametrize('kind', LAYERS)
def test_full_precision_does_not_change(kind):
    """With borders, whose zeros are shifted like all other values."""
    layer, x = example(kind)
    network = quantized(layer)
    equalize_(network, x)
    assert not bool((network.layer.input_scale == 1).all())
    with torch.no_grad():
        torch.testing.assert_close(unquantized(network, x), layer(x), rtol=1e-4, atol=1e-4)
        equalize_(network, 2 * x - 1)  # calibrating again takes the first shift back
        torch.testing.assert_close(unquantized(network, x), layer(x), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('reconstruct', [False, True])
def test_quantization_errors_are_smaller(kind, reconstruct):
    layer, x = example(kind)
    errors = []
    for equalize in (False, True):
        network = quantized(layer, equalize=equalize, transform='random', granularity='channel')
        calibrate(network, x, CalibrationConfig(reconstruct=reconstruct), progress=False)
        with torch.no_grad():
            errors.append(float((network(x) - layer(x)).square().mean()))
    assert errors[1] < (1.0 if kind == 'transposed in groups' else 0.7) * errors[0]  # without shift and transform


def test_the_scale_is_the_numerical_optimum():
    """Of (sum of sigma^2 / s^2) (sum of |w|^2 s^2), by gradient descent."""
    generator = torch.Generator().manual_seed(0)
    sigma, weight = torch.rand(2, 8, generator=generator, dtype=torch.float64).add(0.05).unbind()

    def cost(scale):
        return ((sigma / scale).square().sum() * (weight * scale).square().sum()).log()

    logarithm = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithm], max_iter=200, line_search_fn='strong_wolfe')

    def closure():
        optimizer.zero_grad()
        value = cost(logarithm.exp())
        value.backward()
        return value

    optimizer.step(closure)
    scale = optimal_scale(sigma, weight)
    torch.testing.assert_close(cost(scale), (sigma * weight).sum().square().log())
    torch.testing.assert_close(scale, (logarithm - logarithm.mean()).exp().detach(), rtol=1e-3, atol=0)


def test_constant_and_unused_channels_have_finite_scales():
    for sigma, weight in ((torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])), (torch.zeros(2), torch.zeros(2))):
        scale = optimal_scale(sigma, weight)
        assert bool(torch.isfinite(scale).all()) and bool((scale > 0).all())


def test_the_input_of_a_depthwise_convolution_gets_equal_deviations_if_weights_have_their_own_grids():
    layer, x = example('depthwise')
    network = quantized(layer, granularity='channel')
    equalize_(network, x)
    deviations = network.layer.transformed_input(x).std((0, 2, 3))
    torch.testing.assert_close(deviations, deviations.mean().expand(CHANNELS), rtol=0.05, atol=0)


def test_full_precision_checkpoints_load_and_reset_it():
    for kind in ('unbiased', 'plain'):
        layer, x = example(kind)
        network = quantized(layer)
        equalize_(network, x)
        network.load_state_dict({f'layer.{name}': value for name, value in layer.state_dict().items()})
        assert bool((network.layer.input_shift == 0).all()) and bool((network.layer.input_scale == 1).all())
        with torch.no_grad():
            torch.testing.assert_close(unquantized(network, x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('equalize', [True, False])
def test_packed_networks_carry_it(tmp_path, equalize):
    options = {'equalize': equalize, 'quantize_convs': True, 'quantize_head_tail': True}
    network = tiny_quantized(options).eval()
    assert any(layer.input_shift is not None for layer in quantized_layers(network).values()) == equalize
    save_packed(network, tmp_path / 'network.safetensors', rest='fp32')
    again = load_packed(tmp_path / 'network.safetensors')
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(again(x), network(x))


def test_layers_may_differ():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    options = {'quantize_convs': True, 'quantize_head_tail': True, 'equalize': True}
    quantize_(network, QuantConfig(**options, layers={'0': {'equalize': False}}))
    assert [layer.input_scale is None for layer in network if isinstance(layer, QuantConv2d)] == [True, False]


def test_gradients_reach_the_weight():
    network = tiny_edsr(equalize=True).requires_grad_(True)
    calibrate(network, torch.rand(1, 3, 16, 16), CalibrationConfig(candidates=5), progress=False)
    network(torch.rand(1, 3, 16, 16)).mean().backward()
    assert all(float(layer.weight.grad.abs().sum()) > 0 for layer in quantized_layers(network).values())
