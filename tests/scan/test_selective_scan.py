"""All forms of the selective scan: the same values and gradients as the equations in float64."""

import logging
import sys
from types import ModuleType

import pytest
import torch

from compsrt_basicsr.scan import cpp, cuda, dispatch
from compsrt_basicsr.scan.chunked import scan_chunked
from compsrt_basicsr.scan.cpp import scan_cpp
from compsrt_basicsr.scan.dispatch import selective_scan
from compsrt_basicsr.scan.reference import scan_reference

pytestmark = pytest.mark.usefixtures('kernel_home')
# Float32 against float64 over a few hundred steps; measured below 1e-6.
TOLERANCE = 1e-5
NAMES = ('u', 'delta', 'a', 'b', 'c', 'skip', 'bias')


def arguments(batch, length, channels, states, seed=0):
    """Steps of 0.01 to 1, so that some states live for hundreds of steps and others for one."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, length, channels)] * 2 + [(channels, states)] + [(batch, length, states)] * 2 + [(channels,)] * 2
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    values[2], values[6] = -values[2].exp(), values[6] - 2.0
    return values


def with_gradients(function, values):
    leaves = [value.clone().requires_grad_() for value in values]
    result = function(*leaves)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(9)).to(result.dtype)
    return [result.detach(), *torch.autograd.grad((result * weights).sum(), leaves)]


@pytest.mark.parametrize('function', [scan_reference, scan_chunked, scan_cpp])
@pytest.mark.parametrize(
    'shape', [(1, 300, 48, 8), (2, 65, 13, 3), (3, 64, 8, 1), (2, 2, 1, 17), (1, 128, 16, 8), (5, 7, 33, 2)]
)
def test_values_and_gradients(function, shape):
    values = arguments(*shape)
    expected = with_gradients(scan_reference, [value.double() for value in values])
    for name, mine, other in zip(('y', *NAMES), with_gradients(function, values), expected):
        assert float((mine - other).abs().max()) <= TOLERANCE * max(float(other.abs().max()), 1.0), name


def test_chunked_gradient_in_float64():
    """Finite differences agree, so the reference's gradient is not taken for granted."""
    values = [value.double().requires_grad_() for value in arguments(2, 11, 3, 2)]
    assert torch.autograd.gradcheck(scan_chunked, values)


@pytest.mark.parametrize('function', [scan_chunked, scan_cpp])
@pytest.mark.parametrize('delta', [-100.0, -20.0, 0.0, 20.0, 100.0])
def test_extreme_steps(function, delta):
    """Softplus and decay have no overflow: a long step forgets, a short one keeps."""
    values = arguments(1, 40, 9, 4)
    values[1] = torch.full_like(values[1], delta)
    expected = with_gradients(scan_reference, [value.double() for value in values])
    for mine, other in zip(with_gradients(function, values), expected):
        assert torch.allclose(mine.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('index', range(7))
@pytest.mark.parametrize('function', [scan_chunked, scan_cpp])
def test_nan_is_not_lost(function, index):
    values = arguments(1, 70, 9, 3)
    values[index].view(-1)[0] = torch.nan
    assert torch.isnan(function(*values)).any()


def test_threads_share_the_work(monkeypatch):
    values = arguments(3, 70, 20, 3)
    alone = with_gradients(scan_cpp, values)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 4)
    for mine, other in zip(with_gradients(scan_cpp, values), alone):
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-5)  # sums of the threads in another order


def test_strides_and_dtypes(monkeypatch):
    values = arguments(2, 30, 9, 3)
    strided = [value.movedim(0, -1).contiguous().movedim(-1, 0) for value in values]
    assert torch.equal(selective_scan(*strided), selective_scan(*values))
    assert selective_scan(*(value.double() for value in values)).dtype == torch.float64
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(selective_scan(*values), selective_scan(*values))
        assert selective_scan(*values).dtype == torch.float32
    with pytest.raises(RuntimeError, match='expected'):
        scan_cpp(values[0][:, :5], *values[1:])


def test_wrong_kernel_is_detected(monkeypatch, caplog):
    right = cpp.scan_cpp
    monkeypatch.setattr(cpp, 'scan_cpp', lambda *values: right(*values) * 1.001)
    cpp.scan_is_right.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert not cpp.scan_is_right()
        assert len(caplog.messages) == 1
        monkeypatch.setattr(dispatch, 'scan_cpp', None)
        values = arguments(1, 10, 5, 2)
        assert torch.allclose(selective_scan(*values), scan_reference(*values), atol=1e-5)
    finally:
        cpp.scan_is_right.cache_clear()


def test_first_scan_in_inference_mode():
    """The self-test computes gradients, which tensors of inference mode do not have."""
    cpp.scan_is_right.cache_clear()
    with torch.inference_mode():
        values = arguments(1, 10, 5, 2)
        assert torch.allclose(selective_scan(*values), scan_reference(*values), atol=1e-5)
    assert cpp.scan_is_right()


def stand_in(monkeypatch, function):
    """A package mamba_ssm with the given function."""
    for name in ('mamba_ssm', 'mamba_ssm.ops', 'mamba_ssm.ops.selective_scan_interface'):
        module = ModuleType(name)
        module.__path__, module.__spec__ = [], object()
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules['mamba_ssm.ops.selective_scan_interface'].selective_scan_fn = function
    cuda.mamba_ssm_scan.cache_clear()


def test_mamba_ssm_gets_its_shapes(monkeypatch):
    def scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False):
        assert B.shape == C.shape == (2, 1, 3, 30) and delta_softplus and z is None
        inner = (x.transpose(1, 2) for x in (u, delta))
        return scan_reference(*inner, A, B[:, 0].mT, C[:, 0].mT, D, delta_bias).transpose(1, 2)

    values = arguments(2, 30, 9, 3)
    stand_in(monkeypatch, scan)
    try:
        assert torch.allclose(cuda.mamba_ssm_scan()(*values), scan_reference(*values))
    finally:
        cuda.mamba_ssm_scan.cache_clear()


def test_another_mamba_ssm_is_not_used(monkeypatch, caplog):
    stand_in(monkeypatch, lambda u, delta, A, B, C: u)
    try:
        with caplog.at_level(logging.WARNING):
            assert cuda.mamba_ssm_scan() is None
        (message,) = caplog.messages
        assert 'mamba_ssm' in message and '`D`' in message
    finally:
        cuda.mamba_ssm_scan.cache_clear()
