"""Which way of computing a loaded model gets."""

import pytest
import torch
from compsrt_runs import make_teacher
from tiny_networks import pictures, tiny_edsr, tiny_quantized

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.execution import choose_execution


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


def test_convolutions_and_paper_range_stay_fake(load, kernel_home):
    assert choose_execution(load(tiny_edsr()), 'auto') == 'fake'
    assert choose_execution(load(tiny_quantized({'code_range': 'paper', 'transform': 'padded'})), 'auto') == 'fake'


def test_full_precision(tmp_path):
    model = load_network(make_teacher(tmp_path / 't.pth'))
    assert choose_execution(model, 'auto') == 'fake'
    with pytest.raises(CompSRTError, match='no quantized layer'):
        choose_execution(model, 'integer')
