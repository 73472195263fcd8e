"""Uniform asymmetric quantization: codes, values, and differentiable fake quantization.

Symbols: step s > 0 (`scale`), zero point Z (`zero`, a float), b bits, codes q. The formula exists once, in `quantize`
and `dequantize`; fake quantization, packing and integer execution call them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from compsrt_basicsr.quant.functional.fused import fused_fake_quantize, serves


def quantize(x: Tensor, scale: Tensor, zero: Tensor, levels: int | None) -> Tensor:
    """Computes the codes q = round((x - Z) / s), clamped to [0, levels - 1] unless `levels` is None.

    Args:
        x: values, any shape.
        scale: step s, broadcastable to x.
        zero: zero point Z, broadcastable to x.
        levels: 2^b for codes of b bits (strict range); None for the unclamped codes of the paper range.

    Returns:
        Integer-valued floats with the dtype and shape of x.
    """
    codes = torch.sub(x, zero).div_(scale)
    return (codes if levels is None else codes.clamp_(0, levels - 1)).round_()


def dequantize(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Computes the values s q + Z of codes q, in a new tensor."""
    return _dequantize_(torch.clone(codes), scale, zero)


def _dequantize_(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return codes.mul_(scale).add_(zero)


@torch.no_grad()
def vector_range(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Returns the smallest value and the extent (largest minus smallest, above 0) of the vectors along a dimension."""
    smallest, largest = x.detach().float().aminmax(dim=axis, keepdim=True)
    least = (1e-6 * torch.maximum(smallest.abs(), largest.abs())).clamp_min(1e-8)
    return smallest, (largest - smallest).maximum(least)


def vector_grid(scale: Tensor, zero: Tensor, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Returns step and zero point of each vector along a dimension, from those of values mapped to [0, 1]."""
    smallest, extent = vector_range(x, axis)
    return scale * extent, zero * extent + smallest


def zero_onto_grid(scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """Moves a zero point so that 0 lies on the grid: Z' = -k s with the integer k = round(clip(-Z/s, 0, 2^b - 1)).

    Code k then has the value s k + Z', which is exactly 0.0 in floating point too.

    Straight-through gradient: dZ'/dZ = 1, dZ'/ds = clip(-Z/s, 0, 2^b - 1) - k.

    Args:
        scale: step s > 0.
        zero: zero point Z, of the shape of `scale`.
        levels: 2^b.

    Returns:
        Z', of the shape of `scale`.
    """
    with torch.no_grad():
        exact = torch.clamp(-zero / scale, 0, levels - 1)
        code = torch.round(exact)
    through = (zero - zero.detach()) + (exact - code) * (scale - scale.detach())  # value 0, carries the gradient
    return -(code * scale.detach()) + through


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Returns x and multiplies its gradient by `factor`."""
    return x.detach() + factor * (x - x.detach())  # the second term is 0 and carries the gradient


def fake_quantize(x: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """Fake-quantizes in strict range: dequantize(quantize(x)), differentiable in x, scale and zero.

    With v = (x - Z)/s, n = levels - 1, and a straight-through round:
        0 < v < n:  dy/dx = 1, dy/ds = q - v, dy/dZ = 0
        v <= 0:     dy/dx = 0, dy/ds = 0,     dy/dZ = 1
        v >= n:     dy/dx = 0, dy/ds = n,     dy/dZ = 1
    These are the gradients of LSQ (arXiv 1902.08153) with the offset of LSQ+ (arXiv 2004.09576).

    Args:
        x: values, any shape.
        scale: step s > 0: one element, or (C, 1, ...) broadcast over the trailing dimensions of x.
        zero: zero point Z, of the shape of `scale`.
        levels: 2^b.

    Returns:
        Tensor of the shape of x with at most `levels` distinct values per scale.
    """
    if serves(x, scale):
        return fused_fake_quantize(x, scale, zero, levels)
    return _StrictFakeQuantize.apply(x, scale, zero, levels)


def fake_quantize_paper(x: Tensor, lower: Tensor, upper: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Fake-quantizes by the published formula (CompSRT, arXiv 2601.21069): s round((clip(x, l, u) - Z)/s) + Z.

    The codes are not clamped. With a straight-through round, dy/dx = 1 inside [l, u]; dy/dl and dy/du are 1 for the
    elements clipped at l and u; dy/ds = q - v; dy/dZ = 0, so the published zero offset does not train. Only (u - l)/s
    limits the number of codes, and training may push it beyond 2^b.

    Args:
        x: values, any shape.
        lower, upper, scale, zero: l, u, s, Z: one element each, or (C, 1, ...).

    Returns:
        Tensor of the shape of x.
    """
    return _PaperFakeQuantize.apply(x, lower, upper, scale, zero)


def _sum_product(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """Sums a * b over the dimensions that `like` broadcasts over; the result has the shape of `like`."""
    if like.numel() == 1:
        return torch.dot(a.reshape(-1), b.reshape(-1)).reshape(like.shape)
    return (a * b).sum_to_size(like.shape)


class _StrictFakeQuantize(Function):
    """`fake_quantize` with its custom gradient. Saves v only.

    Uses sums and products only: on a CPU, comparisons and masks cost ten times as much. In units of v the clipping
    bounds are the constants 0 and n, so the gradient of the clip takes one pass and needs no device synchronization.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
        ctx.top = levels - 1
        v = torch.sub(x, zero).div_(scale)
        ctx.save_for_backward(v, scale)
        return _dequantize_(torch.clamp(v, 0, ctx.top).round_(), scale, zero)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        v, scale = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = torch.ops.aten.hardtanh_backward(grad, v, 0, ctx.top)
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return grad_x, None, None, None
        clipped = torch.clamp(v, 0, ctx.top)
        error = torch.round(clipped).sub_(clipped)  # q - v inside, 0 where clipped
        grad_scale = _sum_product(grad, error, scale)
        grad_clipped = torch.sub(grad, grad_x)  # 0 inside
        grad_scale += _sum_product(grad_clipped, clipped, scale)  # n for elements clipped at the top
        return grad_x, grad_scale, grad_clipped.sum_to_size(scale.shape), None


class _PaperFakeQuantize(Function):
    """`fake_quantize_paper` with its custom gradient; sums and products only, as in `_StrictFakeQuantize`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lower: Tensor, upper: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        clipped = torch.clamp(x, lower, upper)
        y = _dequantize_(quantize(clipped, scale, zero, None), scale, zero)
        ctx.save_for_backward(x, y, lower, upper, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        x, y, lower, upper, scale = ctx.saved_tensors
        grad = grad.contiguous()
        width = (upper - lower).clamp_min(torch.finfo(x.dtype).tiny)
        position = torch.sub(x, lower).div_(width)  # 0 at the lower bound, 1 at the upper
        grad_x = torch.ops.aten.hardtanh_backward(grad, position, 0, 1)
        clipped = position.clamp_(0, 1)
        grad_out = torch.sub(grad, grad_x)  # 0 inside
        grad_upper = _sum_product(grad_out, clipped, upper)
        grad_lower = grad_out.sum_to_size(lower.shape) - grad_upper
        error = torch.sub(y, clipped.mul_(width).add_(lower))
        grad_scale = _sum_product(grad, error, scale) / scale
        return grad_x, grad_lower, grad_upper, grad_scale, torch.zeros_like(scale)
