"""Window attention by the C++ kernel: values and gradients against float64, and against the module in torch."""

import logging

import pytest
import torch
from conftest import forget_kernels
from tiny_networks import TINY

from compsrt_basicsr.archs import swinir_attention
from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.functional import fused_attention as module
from compsrt_basicsr.quant.functional.affine import _StrictFakeQuantize
from compsrt_basicsr.quant.functional.fused_attention import (
    LEAST_ROW_SUM,
    Attention,
    attention_weights,
    fused_attention,
    serves_attention,
)

pytestmark = pytest.mark.usefixtures('kernel_home')
SHAPES = [(64, 6, 10), (16, 2, 30), (48, 3, 7), (16, 1, 64)]  # tokens, heads, channels of a head
GRIDS = [[0.3, -2.1], [0.25, -1.9], [0.35, -2.6], [0.06, 0.003]]


def operands(tokens, heads, dim, masked=True, windows=6):
    generator = torch.Generator().manual_seed(tokens + dim)
    q, k, v = (torch.randn(windows, tokens, heads * dim, generator=generator) for _ in range(3))
    bias = torch.randn(heads, tokens, tokens, generator=generator)
    mask = torch.randn(3, tokens, tokens, generator=generator) - 100 * (torch.rand(3, tokens, tokens) < 0.3)
    return q, k, v, bias, mask if masked else None, torch.tensor(GRIDS)


def reference(q, k, v, bias, mask, grids, attention):
    """In the precision of the operands, by torch's own gradients and the closed form of fake quantization."""
    windows, tokens, channels = q.shape

    def quantized(index, x):
        scale, zero = grids[index]
        return _StrictFakeQuantize.apply(x, scale, zero, attention.levels)

    heads = (x.view(windows, tokens, attention.heads, -1).transpose(1, 2) for x in (q * attention.scale, k, v))
    q, k, v = (quantized(index, x) for index, x in enumerate(heads))
    logits = q @ k.mT + bias
    if mask is not None:
        logits = logits + mask.repeat(windows // len(mask), 1, 1)[:, None]
    e = torch.exp(logits - logits.detach().amax(-1, keepdim=True))
    weights = quantized(3, e if attention.deferred else e / e.sum(-1, keepdim=True))
    y = weights @ v
    y = y / weights.sum(-1, keepdim=True).clamp_min(LEAST_ROW_SUM) if attention.deferred else y
    return y.transpose(1, 2).reshape(windows, tokens, channels)


def with_gradients(function, q, k, v, bias, mask, grids, attention):
    leaves = [x.detach().requires_grad_() for x in (q, k, v, bias, grids)]
    y = function(*leaves[:4], mask, leaves[4], attention)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)]


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('deferred', [False, True])
@pytest.mark.parametrize('shape', SHAPES)
def test_values_and_gradients_are_those_of_float64(shape, deferred, masked):
    """All but a few: float32 moves codes that lie on the edge of their step, and so the windows that hold them."""
    given = operands(*shape, masked)
    attention = Attention(shape[1], shape[2] ** -0.5, 16, deferred)
    exact = with_gradients(reference, *(None if x is None else x.double() for x in given), attention)
    for mine, other in zip(with_gradients(fused_attention, *given, attention), exact):
        assert mine.shape == other.shape
        assert (mine - other).abs().median() < 1e-6 * other.abs().max()
        assert (mine - other).norm() < 5e-3 * other.norm()


def test_the_number_of_threads_changes_nothing():
    given, threads, results = operands(16, 2, 30), torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(with_gradients(fused_attention, *given, Attention(2, 0.2, 16, True)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize('deferred', [False, True])
def test_nan_reaches_the_rows_that_it_concerns(deferred):
    q, *given = operands(16, 2, 10)
    q[1, 3, 4] = torch.nan
    y = fused_attention(q, *given, Attention(2, 0.3, 16, deferred))
    wrong = torch.zeros(y.shape, dtype=torch.bool)
    wrong[1, 3, :10] = True  # the first head's
    assert torch.equal(y.isnan(), wrong)


@pytest.mark.parametrize('deferred', [False, True])
def test_a_step_of_0_leaves_an_operand_as_it_is(deferred):
    q, k, v, bias, mask, _ = operands(16, 2, 10)
    attention, grids = Attention(2, 0.3, 16, deferred), torch.zeros(4, 2)
    heads = [x.view(6, 16, 2, 10).transpose(1, 2) for x in (q, k, v)]
    softmax = (heads[0] * 0.3 @ heads[1].mT + bias + mask.repeat(2, 1, 1)[:, None]).softmax(-1)
    expected = (softmax @ heads[2]).transpose(1, 2).reshape(q.shape)
    torch.testing.assert_close(fused_attention(q, k, v, bias, mask, grids, attention), expected, rtol=0, atol=1e-5)
    weights = attention_weights(q, k, bias, mask, grids, attention)
    shown = softmax / softmax.amax(-1, keepdim=True) if deferred else softmax
    torch.testing.assert_close(weights, shown, rtol=0, atol=1e-6)


@pytest.mark.parametrize('masks', [0, 4])
def test_masks_that_do_not_fit_the_windows_are_refused(masks):
    q, k, v, bias, mask, grids = operands(16, 2, 10)
    mask = mask.repeat(2, 1, 1)[:masks]
    with pytest.raises(RuntimeError, match='does not fit'):
        fused_attention(q, k, v, bias, mask, grids, Attention(2, 0.3, 16, True))


def test_a_wrong_kernel_is_not_used(monkeypatch, caplog):
    right = module.fused_attention
    monkeypatch.setattr(module, 'fused_attention', lambda *arguments: right(*arguments) * 1.01)
    forget_kernels()
    with caplog.at_level(logging.WARNING):
        assert not serves_attention(torch.zeros(1, 16, 12), 2)
    assert 'wrong' in caplog.text
    monkeypatch.undo()
    forget_kernels()
    assert serves_attention(torch.zeros(1, 16, 12), 2)


@pytest.mark.parametrize(
    'quant', [{}, {'softmax': 'deferred', 'attention_transform': False}, {'symmetric': 'both'}], ids=str
)
def test_a_network_trains_as_it_does_in_torch(quant, monkeypatch):
    torch.manual_seed(0)
    network, x = CompSRTSwinIR(**TINY, quant=quant), torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if 'quantizer' not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))  # as large as trained ones
    calibrate(network, x, CalibrationConfig(candidates=10), progress=False)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith('.lower') and 'symmetric' not in quant:
                parameter.add_(0.1)  # otherwise the smallest values lie on the edge of their grid
    network.train()
    results, calls = [], []
    monkeypatch.setattr(swinir_attention, 'fused_attention', lambda *a: (calls.append(1), fused_attention(*a))[1])
    for served in (True, False):
        if not served:
            monkeypatch.setattr(swinir_attention, 'serves_attention', lambda *_: False)
        network.zero_grad()
        y = network(x)
        y.square().mean().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        results.append({'y': y.detach(), **gradients})
    assert results[0].keys() == results[1].keys()
    assert len(calls) == 2  # once in each block, and not in torch
    for name, other in results[1].items():
        assert (results[0][name] - other).norm() <= 0.03 * other.norm() + 1e-9, name
