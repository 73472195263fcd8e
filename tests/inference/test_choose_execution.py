"""Which way of computing a loaded model gets."""

from types import SimpleNamespace

import pytest
import torch
from compsrt_runs import make_teacher
from tiny_networks import pictures, tiny_edsr, tiny_quantized
from torch import nn

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.execution import choose_execution
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.layers import QuantLinear


@pytest.fixture
def load(tmp_path):
    def load(network):
        torch.save({'params': network.state_dict()}, tmp_path / 'x.pth')
        return load_network(tmp_path / 'x.pth')

    return load


def test_auto_takes_codes_where_the_kernels_do_all(load, kernel_home):
    """And the image stays the same but for moved codes: a few of 4 bits in a tiny network."""
    model = load(tiny_quantized())
    before = model.network(pictures())
    assert choose_execution(model, 'auto') == 'integer'
    assert (model.network(pictures()) - before).abs().max() < 0.05
    assert choose_execution(model, 'fake') == 'fake'
    assert torch.equal(model.network(pictures()), before)


def test_auto_without_kernels_is_fake(load, no_kernels):
    assert choose_execution(load(tiny_quantized()), 'auto') == 'fake'
    assert choose_execution(load(tiny_quantized()), 'integer') == 'integer'


def test_auto_takes_codes_for_the_layers_that_have_kernels(kernel_home):
    network = nn.Sequential(QuantLinear(nn.Linear(4, 4), QuantConfig()), QuantConv2d(nn.Conv2d(4, 4, 3), QuantConfig()))
    assert choose_execution(SimpleNamespace(network=network), 'auto') == 'integer'
    network[0].config = QuantConfig(operands='weights')
    assert choose_execution(SimpleNamespace(network=network), 'auto') == 'fake'


def test_convolutions_and_paper_range_stay_fake(load, kernel_home):
    assert choose_execution(load(tiny_edsr()), 'auto') == 'fake'
    assert choose_execution(load(tiny_quantized({'code_range': 'paper', 'transform': 'padded'})), 'auto') == 'fake'


def test_full_precision(tmp_path):
    model = load_network(make_teacher(tmp_path / 't.pth'))
    assert choose_execution(model, 'auto') == 'fake'
    with pytest.raises(CompSRTError, match='no quantized layer'):
        choose_execution(model, 'integer')
