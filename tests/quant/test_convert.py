"""Conversion of networks by name pattern."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.layers import QuantLinear
from compsrt_basicsr.quant.quantizer import quantizers


class Network(nn.Module):
    """Head and tail convolutions around a body of convolutions and linears."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.ModuleDict({'conv': nn.Conv2d(4, 4, 3), 'fc1': nn.Linear(4, 8), 'fc2': nn.Linear(8, 4)})
        self.odd = nn.Conv2d(4, 4, 3, padding=1, padding_mode='reflect')
        self.tail = nn.Conv2d(4, 3, 3, padding=1)


@pytest.mark.parametrize(
    ('options', 'names'),
    [
        ({}, ['body.fc1', 'body.fc2']),
        ({'quantize_convs': True}, ['body.conv', 'body.fc1', 'body.fc2', 'odd']),
        (
            {'quantize_convs': True, 'quantize_head_tail': True},
            ['head', 'body.conv', 'body.fc1', 'body.fc2', 'odd', 'tail'],
        ),
        ({'quantize_head_tail': True}, ['body.fc1', 'body.fc2']),
        ({'include': ('*.fc1',)}, ['body.fc1']),
        ({'include': ('*fc?',), 'exclude': ('body.fc2',)}, ['body.fc1']),
        ({'quantize_convs': True, 'exclude': ('*.fc*',)}, ['body.conv', 'odd']),
    ],
)
def test_what_is_replaced(options, names):
    network = Network()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    parameters = dict(network.named_parameters())
    assert quantize_(network, QuantConfig(**options)) == names
    replaced = [n for n, m in network.named_modules() if isinstance(m, (QuantLinear, QuantConv2d))]
    assert replaced == names
    assert list(quantizers(network)) == [f'{n}.{kind}_quantizer' for n in names for kind in ('weight', 'act')]
    assert all(network.get_parameter(name) is parameter for name, parameter in parameters.items())
    network.load_state_dict(state)  # full-precision checkpoints fit


def test_a_linear_is_split_where_the_options_say_so():
    """It stays one layer: the same parameters, the same shape of the result, more grids."""
    network, plain = Network(), Network()
    network.load_state_dict(plain.state_dict())
    quantize_(network, QuantConfig(split={'*.fc1': ('q', 'k')}, act_bits=8, weight_bits=8))
    assert list(quantizers(network)) == [
        *(f'body.fc1.{part}.{kind}_quantizer' for part in 'qk' for kind in ('weight', 'act')),
        *(f'body.fc2.{kind}_quantizer' for kind in ('weight', 'act')),
    ]
    layer, x = network.body['fc1'], torch.randn(50, 4)
    calibrate(layer, x, CalibrationConfig(), progress=False)
    result, expected = layer(x), plain.body['fc1'](x)
    assert result.shape == expected.shape and (result - expected).abs().max() < 0.1


def test_a_linear_that_cannot_be_split():
    with pytest.raises(CompSRTError, match=r'8 outputs of `body\.fc1` into 3'):
        quantize_(Network(), QuantConfig(split={'*.fc1': ('q', 'k', 'v')}))


def test_quantizers_know_their_names():
    network = Network()
    quantize_(network, QuantConfig())
    assert all(name == quantizer.name for name, quantizer in quantizers(network).items())


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'include': ('layers.*',)}, r'Network .*layers\.\*'),
        ({'exclude': ('*',)}, 'quantize_convs: true'),
    ],
)
def test_nothing_to_quantize(options, text):
    with pytest.raises(CompSRTError, match=text):
        quantize_(Network(), QuantConfig(**options))


def test_network_without_layers():
    with pytest.raises(CompSRTError, match='ReLU'):
        quantize_(nn.ReLU(), QuantConfig())


def test_subclasses_are_left_alone():
    """A subclass may compute something else; only plain layers are replaced."""

    class Special(nn.Linear):
        pass

    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), Special(4, 4), nn.Linear(4, 4))
    assert quantize_(network, QuantConfig()) == ['1']
    assert torch.is_tensor(network[2].weight) and type(network[2]) is Special


class _Shared(nn.Module):
    """One convolution under two names, run twice, with different inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.again, self.last = self.body, nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.first(x))
        return self.last(self.again(10 * x))


def test_a_shared_layer_is_replaced_everywhere_and_its_bounds_hold_for_all_its_inputs() -> None:
    torch.manual_seed(0)
    network, image = _Shared(), torch.rand(1, 3, 16, 16)
    seen: list[float] = []
    network.body.register_forward_pre_hook(lambda module, inputs: seen.append(float(inputs[0].detach().max())))
    with torch.no_grad():
        expected = network(image)
    config = QuantConfig(weight_bits=8, act_bits=8, quantize_convs=True, transform='none')
    assert quantize_(network, config) == ['body']
    assert network.again is network.body
    calibrate(network, image, CalibrationConfig(method='minmax'), progress=False)
    with torch.no_grad():
        assert float(network.body.act_quantizer.bounds()[1]) == pytest.approx(max(seen), rel=1e-5)
        assert torch.allclose(network(image), expected, atol=0.1 * float(expected.abs().max()))


@pytest.mark.parametrize('transform', ['none', 'auto', 'padded'])
@pytest.mark.parametrize(
    'layer',
    [
        nn.ConvTranspose2d(6, 10, 4, stride=2, padding=1),
        nn.ConvTranspose2d(6, 6, 3, stride=2, padding=1, output_padding=1, groups=3, bias=False),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 9, 3, stride=2, padding=2, dilation=2, groups=3),
        nn.Conv2d(6, 10, 3, padding='same', padding_mode='reflect'),
        nn.Conv2d(6, 10, (1, 3), padding=(0, 1), padding_mode='circular'),
    ],
    ids=str,
)
@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_convolutions_of_every_kind_approach_full_precision(layer: nn.Module, transform: str, granularity: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(deepcopy(layer))
    image = torch.randn(2, 6, 12, 12)
    with torch.no_grad():
        expected = network(image)
    config = QuantConfig(
        weight_bits=8,
        act_bits=8,
        quantize_convs=True,
        quantize_head_tail=True,
        transform=transform,
        granularity=granularity,
    )
    quantize_(network, config)
    calibrate(network, image, CalibrationConfig(method='minmax'), progress=False)
    with torch.no_grad():
        assert torch.allclose(network(image), expected, atol=0.03 * float(expected.abs().max()))
        codes = network[0].weight_codes()
        network[0].fix_codes(codes)
        assert torch.equal(network[0].weight_codes(), codes.to(torch.int32))


def test_options_of_single_layers_take_precedence() -> None:
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3) for _ in range(3)))
    config = QuantConfig.from_opt(
        {
            'quantize_convs': True,
            'quantize_head_tail': True,
            'layers': {'0': {'weight_bits': 8, 'act_bits': 6, 'transform': 'none'}, '*': {'granularity': 'channel'}},
        }
    )
    quantize_(network, config)
    first, second = network[0], network[1]
    assert (first.weight_quantizer.bits, first.act_quantizer.bits, first.transform.kind) == (8, 6, 'none')
    assert (second.weight_quantizer.bits, second.weight_quantizer.lower.numel()) == (4, 3)
