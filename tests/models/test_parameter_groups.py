"""Freezing, and the groups of an optimizer."""

import pytest
import torch
from tiny_networks import tiny_quantized

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.parameter_groups import freeze_, parameter_groups
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.quantizer import quantizers


def trained(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def of_quantizers(network):
    return {f'{name}.{part}' for name, q in quantizers(network).items() for part in q.learned}


def test_freezing():
    network = tiny_quantized({'method': '2dquant'})
    freeze_(network, 'quantizers')
    assert trained(network) == of_quantizers(network)
    assert not any('offset' in name for name in trained(network))
    freeze_(network, 'all')
    frozen = {name for name, _ in network.named_parameters()} - trained(network)
    assert frozen == {f'{name}.{part}' for name in quantizers(network) for part in ('scale_offset', 'zero_offset')}
    freeze_(network, 'none')
    assert trained(network) == set()


def of_layers(network):
    layers = {name: m for name, m in network.named_modules() if isinstance(m, QuantizedLayer)}
    return {f'{name}.{part}' for name in layers for part in ('weight', 'bias')}


def test_weights_have_a_rate_of_their_own():
    network = tiny_quantized()
    freeze_(network, 'all')
    groups = parameter_groups(network, 1e-4)
    optimizer = torch.optim.Adam(groups, lr=0.03)
    first, second, third = optimizer.param_groups
    assert (first['lr'], second['lr']) == (0.03, 1e-4)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(p)] for p in first['params']} == of_quantizers(network)
    assert {names[id(p)] for p in second['params']} == of_layers(network)
    assert third['lr'] == 1e-4
    assert {names[id(p)] for p in third['params']} == trained(network) - of_quantizers(network) - of_layers(network)


def test_full_precision_layers_have_a_rate_of_their_own():
    network = tiny_quantized()
    freeze_(network, 'all')
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for weight_lr, expected in ((1e-3, [0.03, 1e-3, 1e-4]), (None, [0.03, 0.03, 1e-4])):
        groups = torch.optim.Adam(parameter_groups(network, weight_lr, 1e-4), lr=0.03).param_groups
        assert [group['lr'] for group in groups] == expected
        kinds = {names[id(p)].rsplit('.', 1)[0].split('.')[-1] for p in groups[2]['params']}
        assert {'conv_first', 'norm1', 'norm', 'attn'} <= kinds and not kinds & {'qkv', 'proj', 'fc1', 'fc2'}


def test_one_group_without_it():
    network = tiny_quantized()
    freeze_(network, 'all')
    (group,) = parameter_groups(network, None)
    assert len(group['params']) == len(list(network.parameters())) and 'lr' not in group


def test_a_rate_for_weights_that_are_frozen():
    network = tiny_quantized()
    freeze_(network, 'quantizers')
    for rates in ((1e-4, None), (None, 1e-4)):
        with pytest.raises(CompSRTError, match=r'`train\.unquantized_lr` are rates of weights'):
            parameter_groups(network, *rates)


def test_nothing_that_trains():
    network = tiny_quantized({'learn_bounds': False, 'learn_scale_offset': False, 'learn_zero_offset': False})
    freeze_(network, 'quantizers')
    with pytest.raises(CompSRTError, match='Nothing trains'):
        parameter_groups(network, None)
    freeze_(network, 'all')
    assert len(parameter_groups(network, 1e-4)) == 2  # no group of quantizers
