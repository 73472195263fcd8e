"""Conversion of networks by name pattern."""

import pytest
import torch
from torch import nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.layers import QuantConv2d, QuantLinear
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
        ({'quantize_convs': True}, ['body.conv', 'body.fc1', 'body.fc2']),
        ({'quantize_convs': True, 'quantize_head_tail': True}, ['head', 'body.conv', 'body.fc1', 'body.fc2', 'tail']),
        ({'quantize_head_tail': True}, ['body.fc1', 'body.fc2']),
        ({'include': ('*.fc1',)}, ['body.fc1']),
        ({'include': ('*fc?',), 'exclude': ('body.fc2',)}, ['body.fc1']),
        ({'quantize_convs': True, 'exclude': ('*.fc*',)}, ['body.conv']),
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


def test_padding_modes_other_than_zeros_stay():
    network = Network()
    quantize_(network, QuantConfig(quantize_convs=True, quantize_head_tail=True))
    assert type(network.odd) is nn.Conv2d


def test_subclasses_are_left_alone():
    """A subclass may compute something else; only plain layers are replaced."""

    class Special(nn.Linear):
        pass

    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), Special(4, 4), nn.Linear(4, 4))
    assert quantize_(network, QuantConfig()) == ['1']
    assert torch.is_tensor(network[2].weight) and type(network[2]) is Special
