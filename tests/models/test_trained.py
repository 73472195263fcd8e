"""What trains, and at which rate."""

import pytest
import torch
from tiny_networks import tiny_quantized

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.trained import freeze_, parameter_groups
from compsrt_basicsr.quant.quantizer import quantizers


def trained(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def of_quantizers(network):
    return {f'{name}.{part}' for name, q in quantizers(network).items() for part in q.learned}


def test_what_is_frozen():
    network = tiny_quantized({'method': '2dquant'})
    freeze_(network, 'quantizers')
    assert trained(network) == of_quantizers(network)
    assert not any('offset' in name for name in trained(network))
    freeze_(network, 'all')
    frozen = {name for name, _ in network.named_parameters()} - trained(network)
    assert frozen == {f'{name}.{part}' for name in quantizers(network) for part in ('scale_offset', 'zero_offset')}
    freeze_(network, 'none')
    assert trained(network) == set()


def test_weights_have_a_rate_of_their_own():
    network = tiny_quantized()
    freeze_(network, 'all')
    groups = parameter_groups(network, 1e-4)
    optimizer = torch.optim.Adam(groups, lr=0.03)
    first, second = optimizer.param_groups
    assert (first['lr'], second['lr']) == (0.03, 1e-4)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(p)] for p in first['params']} == of_quantizers(network)
    assert {names[id(p)] for p in second['params']} == trained(network) - of_quantizers(network)


def test_one_group_without_it():
    network = tiny_quantized()
    freeze_(network, 'all')
    (group,) = parameter_groups(network, None)
    assert len(group['params']) == len(list(network.parameters())) and 'lr' not in group


def test_a_rate_for_weights_that_are_frozen():
    network = tiny_quantized()
    freeze_(network, 'quantizers')
    with pytest.raises(CompSRTError, match=r'`train\.weight_lr` is the rate of trained weights'):
        parameter_groups(network, 1e-4)


def test_nothing_that_trains():
    network = tiny_quantized({'bounds': False, 'scale_offset': False, 'zero_offset': False})
    freeze_(network, 'quantizers')
    with pytest.raises(CompSRTError, match='Nothing trains'):
        parameter_groups(network, None)
    freeze_(network, 'all')
    assert len(parameter_groups(network, 1e-4)) == 1
