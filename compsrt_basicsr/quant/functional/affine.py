"""Uniform asymmetric quantization: codes, values, and the fake quantization that trains.

Symbols: s `scale` > 0, Z `zero` (a float), b bits, q codes. `quantize` and `dequantize` hold the only formula;
fake quantization, packing and integer execution are made of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def quantize(x: Tensor, scale: Tensor, zero: Tensor, levels: int | None) -> Tensor:
    """Codes q = round((x - Z) / s), clamped to [0, levels - 1] unless `levels` is None.

    Args:
        x: values, any shape.
        scale: step s, broadcastable to x.
        zero: zero point Z, broadcastable to x.
        levels: 2^b for codes of at most b bits (strict range), None for the unclamped codes of the paper.

    Returns:
        Integer-valued floats in x's dtype and shape.
    """
    codes = torch.sub(x, zero).div_(scale)
    return (codes if levels is None else codes.clamp_(0, levels - 1)).round_()


def dequantize(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Values s q + Z of codes q, in a new tensor."""
    return _dequantize_(torch.clone(codes), scale, zero)


def _dequantize_(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return codes.mul_(scale).add_(zero)


def zero_onto_grid(scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """The nearest zero point of a grid that holds 0: Z' = -k s with the whole number k = round(clip(-Z/s, 0, 2^b - 1)).

    The code k then has the value s k + Z', which is exactly 0.0 in floats too.

    Straight-through: dZ'/dZ = 1, dZ'/ds = clip(-Z/s, 0, 2^b - 1) - k.

    Args:
        scale: step s > 0.
        zero: zero point Z, shaped as scale.
        levels: 2^b.
    """
    with torch.no_grad():
        exact = torch.clamp(-zero / scale, 0, levels - 1)
        code = torch.round(exact)
    through = (zero - zero.detach()) + (exact - code) * (scale - scale.detach())  # 0 with a gradient
    return -(code * scale.detach()) + through


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x, whose gradient is multiplied by a factor."""
    return x.detach() + factor * (x - x.detach())  # 0 with a gradient


def fake_quantize(x: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """Strict range: dequantize(quantize(x)) with at most `levels` codes, differentiable in x, scale and zero.

    With v = (x - Z)/s, n = levels - 1, and round passed straight through:
        0 < v < n:  dy/dx = 1, dy/ds = q - v, dy/dZ = 0
        v <= 0:     dy/dx = 0, dy/ds = 0,     dy/dZ = 1
        v >= n:     dy/dx = 0, dy/ds = n,     dy/dZ = 1
    (LSQ, arXiv 1902.08153, with the offset of LSQ+, arXiv 2004.09576.)

    Args:
        x: values, any shape.
        scale: step s > 0: one element, or (C, 1, ...) broadcasting over x's trailing dimensions.
        zero: zero point Z, shaped as scale.
        levels: 2^b.

    Returns:
        Tensor of x's shape with at most `levels` different values per scale.
    """
    return _StrictFakeQuantize.apply(x, scale, zero, levels)


def fake_quantize_paper(x: Tensor, lower: Tensor, upper: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """The published formula (CompSRT, arXiv 2601.21069): s round((clip(x, l, u) - Z)/s) + Z, codes not clamped.

    Straight-through round: dy/dx = 1 within [l, u]; dy/dl, dy/du = 1 for the elements clipped there; dy/ds = q - v;
    dy/dZ = 0 everywhere, so that the published zero offset does not train. The number of codes is bounded by the range
    over the step only: training may leave 2^b behind.

    Args:
        x: values, any shape.
        lower, upper, scale, zero: one element each, or (C, 1, ...).
    """
    return _PaperFakeQuantize.apply(x, lower, upper, scale, zero)


def _sum_product(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """Sum of a * b over everything that `like` broadcasts over, shaped as `like`."""
    if like.numel() == 1:
        return torch.dot(a.reshape(-1), b.reshape(-1)).reshape(like.shape)
    return (a * b).sum_to_size(like.shape)


class _StrictFakeQuantize(Function):
    """Gradient chosen: see `fake_quantize`. Saves v alone.

    Sums and products only: on a CPU, comparisons and masks cost ten times as much. In v the clipping bounds are the
    numbers 0 and n, so that the gradient of a clip is one pass, and no device is asked for them.
    """

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
        ctx.top = levels - 1
        v = torch.sub(x, zero).div_(scale)
        ctx.save_for_backward(v, scale)
        return _dequantize_(torch.clamp(v, 0, ctx.top).round_(), scale, zero)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        v, scale = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = torch.ops.aten.hardtanh_backward(grad, v, 0, ctx.top)
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return grad_x, None, None, None
        clipped = torch.clamp(v, 0, ctx.top)
        error = torch.round(clipped).sub_(clipped)  # q - v inside, 0 at the clipped ends
        grad_scale = _sum_product(grad, error, scale)
        grad_clipped = torch.sub(grad, grad_x)  # 0 inside
        grad_scale += _sum_product(grad_clipped, clipped, scale)  # n times those above
        return grad_x, grad_scale, grad_clipped.sum_to_size(scale.shape), None


class _PaperFakeQuantize(Function):
    """Gradient chosen: see `fake_quantize_paper`; sums and products only, as in the strict range."""

    @staticmethod
    def forward(ctx, x: Tensor, lower: Tensor, upper: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        clipped = torch.clamp(x, lower, upper)
        y = _dequantize_(quantize(clipped, scale, zero, None), scale, zero)
        ctx.save_for_backward(x, y, lower, upper, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, y, lower, upper, scale = ctx.saved_tensors
        grad = grad.contiguous()
        width = (upper - lower).clamp_min(torch.finfo(x.dtype).tiny)
        share = torch.sub(x, lower).div_(width)  # 0 at the lower bound, 1 at the upper
        grad_x = torch.ops.aten.hardtanh_backward(grad, share, 0, 1)
        clipped = share.clamp_(0, 1)
        grad_out = torch.sub(grad, grad_x)  # 0 inside
        grad_upper = _sum_product(grad_out, clipped, upper)
        grad_lower = grad_out.sum_to_size(lower.shape) - grad_upper
        error = torch.sub(y, clipped.mul_(width).add_(lower))
        grad_scale = _sum_product(grad, error, scale) / scale
        return grad_x, grad_lower, grad_upper, grad_scale, torch.zeros_like(scale)
