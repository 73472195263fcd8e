"""Convolutions in full precision in the kernels: equal to torch, used where they are faster, out of reports."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from on_codes import same
from torch import nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.integer import convolution
from compsrt_basicsr.integer.convolution import ConvolutionExecutor, CppConvolution
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.kernels.loaded import kernels
from compsrt_basicsr.quant.layers import QuantLinear

pytestmark = pytest.mark.usefixtures('kernel_home')


@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 20),
    out=st.integers(1, 20),
    height=st.integers(1, 9),
    width=st.integers(1, 70),
    bias=st.booleans(),
)
def test_any_size_equals_torch(batch: int, channels: int, out: int, height: int, width: int, bias: bool) -> None:
    torch.manual_seed(width)
    layer = nn.Conv2d(channels, out, 3, padding=1, bias=bias).requires_grad_(False)
    x = torch.randn(batch, channels, height, width)
    result = CppConvolution(kernels(), layer.weight, layer.bias)(x)  # type: ignore[arg-type]
    assert result.shape == (batch, out, height, width)
    assert float((result - layer(x)).abs().max()) <= 1e-5


def network(**options: object) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(32, 40, 3, **{'padding': 1, **options}), QuantLinear(nn.Linear(9, 4), QuantConfig())
    return nn.Sequential(*layers).eval().requires_grad_(False)


def test_integer_execution_runs_them_in_the_kernels() -> None:
    net, x = network(), torch.randn(2, 32, 5, 9)
    twin = copy.deepcopy(net)
    assert list(set_execution_(twin, 'integer').layers) == ['1']
    assert isinstance(twin[0].forward, ConvolutionExecutor)
    result, expected = twin[0](x), net[0](x)
    assert same(result, expected) and not torch.equal(result, expected)
    assert same(twin[0](x[0]), net[0](x[0]))
    assert same(twin[0](x.to(memory_format=torch.channels_last)), expected)
    assert twin[0](x.requires_grad_()).requires_grad
    twin[0].weight.mul_(2)
    assert not same(twin[0](x.detach()), expected)
    with pytest.raises(RuntimeError, match='shape'):
        twin[0](x.detach()[:, 1:])
    set_execution_(twin, 'fake')
    assert torch.equal(twin[0](x), twin[0]._conv_forward(x, twin[0].weight, twin[0].bias))


@pytest.mark.parametrize('to', [torch.float64, torch.bfloat16, 'meta'])
def test_convolutions_that_were_moved_since_stay_in_torch(to: torch.dtype | str) -> None:
    """To another dtype or device than that for which they were prepared."""
    net, x = network(), torch.randn(2, 32, 5, 9)
    set_execution_(net, 'integer')
    net[0](x)
    net.to(to)
    result = net[0](x.to(to))
    assert result.dtype == net[0].weight.dtype and result.device == net[0].weight.device
    if to == torch.float64:
        assert torch.equal(result, torch.nn.functional.conv2d(x.double(), net[0].weight, net[0].bias, padding=1))


def test_a_refused_execution_changes_nothing() -> None:
    net = nn.Sequential(nn.Conv2d(32, 40, 3, padding=1))
    with pytest.raises(CompSRTError, match='no quantized layer'):
        set_execution_(net, 'integer')
    assert 'forward' not in vars(net[0])


@pytest.mark.parametrize(
    'options', [{'stride': 2}, {'padding': 0}, {'dilation': 2}, {'groups': 2}, {'padding_mode': 'reflect'}]
)
def test_other_convolutions_stay_in_torch(options: dict) -> None:
    net = network(**options)
    set_execution_(net, 'integer')
    assert 'forward' not in net[0].__dict__


def test_threads_share_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = nn.Conv2d(8, 4, 3, padding=1).requires_grad_(False), torch.randn(3, 8, 31, 5)
    run = CppConvolution(kernels(), layer.weight, layer.bias)  # type: ignore[arg-type]
    alone = run(x)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    assert torch.equal(run(x), alone)


def test_wrong_kernels_are_detected(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    points = convolution._POINTS
    monkeypatch.setattr(convolution, '_POINTS', (*points[:3], (0.0, 0.0, 1.1)))
    convolution.convolution_is_right.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            net = network()
            set_execution_(net, 'integer')
        (message,) = caplog.messages
        assert '32 to 40' in message and 'forward' not in net[0].__dict__
    finally:
        convolution.convolution_is_right.cache_clear()
