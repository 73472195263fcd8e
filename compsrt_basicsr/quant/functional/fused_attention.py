"""Window attention with fake-quantized operands by the C++ kernel, forward and backward.

`QuantWindowAttention` in torch operations defines it. The kernel keeps each head of a window in the processor's cache,
and computes its logits again for the gradient: no tensor of the size of the logits is made or saved.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from compsrt_basicsr.kernels.loaded import at, in_threads, kernels, passed
from compsrt_basicsr.quant.functional.fused import fused_fake_quantize, fused_is_right

OPERANDS = 4  # q, k, v and the weights
LEAST_ROW_SUM = 0.1  # every row contains exp(0) = 1, so a smaller sum comes from a degenerate grid
_LARGEST = 1024  # tokens and channels of a head that the kernel takes: its working memory is small
_TOLERANCE = 1e-4  # of the self-test, relative to the largest value: float32 sums in another order
_MOVED = 0.01  # share of values that may differ by more there: codes at the border of two


class Attention(NamedTuple):
    """What does not depend on the data.

    Attributes:
        heads: number of heads.
        scale: multiplies q before it is quantized.
        levels: 2^b of all operands.
        deferred: quantize e = exp(logit - largest of the row), and divide by the sum of a row of quantized e;
            otherwise quantize e divided by the sum of its row.
    """

    heads: int
    scale: float
    levels: int
    deferred: bool


def serves_attention(q: Tensor, heads: int) -> bool:
    """Returns whether the kernel can attend now to q, (windows, N, C)."""
    return (
        not (torch.compiler.is_compiling() or torch.jit.is_tracing())  # type: ignore[attr-defined]
        and type(q) is Tensor
        and q.dtype == torch.float32
        and q.device.type == 'cpu'
        and not torch.is_autocast_enabled('cpu')
        and 0 < q.shape[1] <= _LARGEST
        and q.shape[2] <= _LARGEST * heads
        and not is_in_torch_dispatch_mode()
        and attention_is_right()
        and q.shape[1] % _library().cs_lanes() == 0
    )


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None, grids: Tensor, attention: Attention
) -> Tensor:
    """Computes attention in windows of N tokens.

    Args:
        q, k, v: (windows, N, C) float32, the channels of a head next to each other.
        bias: (heads, N, N), added to the logits of every window.
        mask: (M, N, N), added to those of window w as mask[w mod M]; it gets no gradient.
        grids: (4, 2), s and Z of q, k, v and the weights, in strict range; without gradients, s = 0 leaves an operand
            as it is.
        attention: all else.

    Returns:
        (windows, N, C).
    """
    result: Tensor = _FakeAttention.apply(q, k, v, bias, mask, grids, attention)
    return result


def attention_weights(
    q: Tensor, k: Tensor, bias: Tensor, mask: Tensor | None, grids: Tensor, attention: Attention
) -> Tensor:
    """Computes what the quantizer of the weights receives, (windows, heads, N, N), without gradients.

    The arguments are those of `fused_attention`.
    """
    given = _given(q, k, k, bias, mask, grids)
    call, units = _call(given, attention)
    weights = torch.empty(len(q), *bias.shape)
    _run('cs_fake_attention_weights', call, at(weights), units)
    return weights


@lru_cache(maxsize=1)
def attention_is_right() -> bool:
    """Self-test: compares the kernel and its gradients with torch; warns and returns False if it is wrong.

    Without kernels it returns False too.
    """
    if not fused_is_right():
        return False
    with torch.inference_mode(False), torch.enable_grad(), torch.device('cpu'):
        right = all(_agrees(deferred) for deferred in (False, True))
    return passed(right, 'Attention')


def _agrees(deferred: bool) -> bool:
    generator = torch.Generator().manual_seed(0)
    shapes = *[(4, 16, 22)] * 3, (2, 16, 16), (2, 16, 16)
    q, k, v, bias, mask = (torch.randn(shape, generator=generator) for shape in shapes)
    grids = torch.tensor([[0.03, -3.0], [0.04, -4.0], [0.05, -5.0], [0.004, 0.001]])
    attention = Attention(2, 0.7, 200, deferred)
    leaves = q, k, v, bias, grids
    results = []
    for function in (fused_attention, _in_torch):
        own = [leaf.clone().requires_grad_() for leaf in leaves]
        own_q, own_k, own_v, own_bias, own_grids = own
        y = function(own_q, own_k, own_v, own_bias, mask, own_grids, attention)
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), own)])
    return all(_is_close(mine, other) for mine, other in zip(*results))


def _is_close(mine: Tensor, other: Tensor) -> bool:
    far = (mine - other).abs() > _TOLERANCE * other.abs().max()
    return bool(torch.isfinite(mine).all()) and float(far.float().mean()) <= _MOVED


def _in_torch(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None, grids: Tensor, attention: Attention
) -> Tensor:
    """Computes `fused_attention` in torch operations, for the self-test."""
    windows, tokens, channels = q.shape
    heads, scale, levels, deferred = attention

    def quantized(operand: int, x: Tensor) -> Tensor:
        return fused_fake_quantize(x, grids[operand, 0], grids[operand, 1], levels)

    operands = (x.view(windows, tokens, heads, -1).transpose(1, 2) for x in (q * scale, k, v))
    q, k, v = (quantized(index, x.contiguous()) for index, x in enumerate(operands))
    logits = q @ k.transpose(-2, -1) + bias
    if mask is not None:
        logits = logits + mask.repeat(windows // len(mask), 1, 1)[:, None]
    e = torch.exp(logits - logits.detach().amax(-1, keepdim=True))
    weights = quantized(3, e if deferred else e / e.sum(-1, keepdim=True))
    y = weights @ v
    if deferred:
        y = y / weights.sum(-1, keepdim=True).clamp_min(LEAST_ROW_SUM)
    return y.transpose(1, 2).reshape(windows, tokens, channels)


class _Struct(ctypes.Structure):
    """`FakeAttention` of kernels/sources/fake_attention.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('q', 'k', 'v', 'bias', 'mask', 'grids')),
        *((name, ctypes.c_int64) for name in ('windows', 'stride', 'masks')),
        *((name, ctypes.c_int) for name in ('heads', 'tokens', 'dim', 'deferred')),
        *((name, ctypes.c_float) for name in ('factor', 'top', 'least')),
    ]


class _Gradients(ctypes.Structure):
    """`AttentionGradients` of kernels/sources/fake_attention.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in ('out', 'q', 'k', 'v', 'bias', 'grids')]


class _FakeAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        grids: Tensor,
        attention: Attention,
    ) -> Tensor:
        given = _given(q, k, v, bias, mask, grids)
        call, units = _call(given, attention)
        y = torch.empty_like(q, memory_format=torch.contiguous_format)
        _run('cs_fake_attention_run', call, at(y), units)
        ctx.save_for_backward(*given)
        ctx.attention = attention
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        call, units = _call(ctx.saved_tensors, ctx.attention)
        of_y, tokens, heads = of_y.contiguous(), of_y.shape[1], ctx.attention.heads
        of_q, of_k, of_v = (torch.empty_like(of_y) for _ in range(3))
        of_bias = torch.empty(units // heads, heads, tokens, tokens) if ctx.needs_input_grad[3] else None
        of_grids = torch.empty(units, OPERANDS, 2, dtype=torch.float64)
        gradients = _Gradients(*map(at, (of_y, of_q, of_k, of_v, of_bias, of_grids)))
        _run('cs_fake_attention_gradient', call, ctypes.byref(gradients), units)
        summed = None if of_bias is None else of_bias.sum(0).transpose(-2, -1)
        return of_q, of_k, of_v, summed, None, of_grids.sum(0).float(), None


def _given(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None, grids: Tensor) -> list[Tensor | None]:
    """Returns the operands as the kernel reads them; bias and mask are transposed."""
    masks = None if mask is None else mask.transpose(-2, -1).contiguous()
    return [*(x.contiguous() for x in (q, k, v, bias.transpose(-2, -1))), masks, grids.contiguous()]


def _call(given: Sequence[Tensor | None], attention: Attention) -> tuple[_Struct, int]:
    """Returns the kernel's arguments, which do not keep the tensors alive, and the number of its units of work."""
    q, masks = given[0], given[4]
    assert q is not None
    windows, tokens, channels = q.shape
    heads, scale, levels, deferred = attention
    count = 1 if masks is None else len(masks)
    expected = [q.shape] * 3 + [(heads, tokens, tokens), (count, tokens, tokens), (OPERANDS, 2)]
    wrong = [tuple(x.shape) for x, shape in zip(given, expected) if x is not None and x.shape != shape]
    floats = all(x is None or x.dtype == torch.float32 for x in given)
    if wrong or not floats or channels % heads or not count or windows % count:
        raise RuntimeError(f'Attention of {heads} heads got q {tuple(q.shape)}, and an operand that does not fit.')
    call = _Struct(*map(at, given), windows, channels, count, heads, tokens, channels // heads)
    call.deferred, call.factor, call.top, call.least = deferred, scale, levels - 1, LEAST_ROW_SUM
    return call, _library().cs_fake_attention_units(ctypes.byref(call))


def _run(name: str, call: _Struct, result: Any, units: int) -> None:
    function = getattr(_library(), name)
    in_threads(lambda begin, end: function(ctypes.byref(call), result, begin, end), units, 1)


def _library() -> Any:
    library = kernels()
    assert library is not None
    return library
