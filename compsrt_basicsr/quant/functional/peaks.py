"""Vectors divided by their largest value: by the C++ kernel in one pass each for values and gradients, or by torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from compsrt_basicsr.kernels.loaded import at, in_threads, kernels
from compsrt_basicsr.quant.functional.fused import serves

_SHARE = 2**15  # elements that are worth a thread


def divide_by_peak(x: Tensor, axis: int) -> Tensor:
    """Computes x / max(largest value, smallest normal number) of the vectors along a dimension, differentiable.

    The gradient passes through the largest value too: several that are equal share it.
    """
    if axis in (-1, x.ndim - 1) and x.is_contiguous() and serves(x, x.new_empty(())):
        result: Tensor = _DivideByPeak.apply(x)
        return result
    return x / x.amax(axis, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


class _DivideByPeak(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows, n = x.numel() // x.shape[-1], x.shape[-1]
        y, peaks = torch.empty_like(x), torch.empty(rows)
        arguments = at(x), at(y), at(peaks), n, torch.finfo(x.dtype).tiny
        _in_threads('cs_peaks', rows, n, *arguments)
        ctx.save_for_backward(y, peaks)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, peaks = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(y)
        n = y.shape[-1]
        _in_threads('cs_peaks_gradient', len(peaks), n, at(y), at(grad), at(peaks), at(grad_x), n)
        return grad_x


def _in_threads(name: str, rows: int, n: int, *arguments: Any) -> None:
    function = getattr(kernels(), name)
    in_threads(lambda begin, end: function(*arguments, begin, end), rows, max(1, _SHARE // n))
