"""Fake quantization in strict range by the C++ kernel: one pass over memory each for values and for gradients.

The torch form in `affine` and `Quantizer.grid` defines it: values are bit for bit the same, gradients except for the
order of sums. It serves what the kernel does not: other devices and dtypes, tracing, small tensors.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from compsrt_basicsr.kernels.loaded import at, in_threads, kernels, passed

LEAST = 1024  # elements; below, calling the kernel costs about as much as torch
_FLAT = 4096  # elements of a flat tensor that are summed together
_SHARE = 2**15  # elements that are worth a thread
_TOLERANCE = 1e-5  # of the self-test's sums, relative to the sum of magnitudes


class _Strict(ctypes.Structure):
    """`Strict` of kernels/sources/fake_quantize.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('scale', 'zero')),
        *((name, ctypes.c_int64) for name in ('grids', 'total', 'n', 'inner')),
        ('vectors', ctypes.c_int),
        ('top', ctypes.c_float),
    ]


class Learned(NamedTuple):
    """What `Quantizer.grid` makes s and Z of, in strict range.

    Attributes:
        lower, upper, scale_offset, zero_offset: the parameters, one element or (C, 1).
        unit: of their shape.
        floor: smallest step in units.
        factor: multiplies the gradient of s.
    """

    lower: Tensor
    upper: Tensor
    scale_offset: Tensor
    zero_offset: Tensor
    unit: Tensor
    floor: float
    factor: float


def serves(x: Tensor, grid: Tensor, axis: int | None = None) -> bool:
    """Returns whether the kernel can quantize x now.

    Args:
        x: the values.
        grid: a tensor of the shape of s.
        axis: the dimension of vectors with grids of their own, or None.
    """
    return (
        not (torch.compiler.is_compiling() or torch.jit.is_tracing())  # type: ignore[attr-defined]
        and type(x) in (Tensor, nn.Parameter)
        and x.dtype == grid.dtype == torch.float32
        and x.device.type == grid.device.type == 'cpu'
        and x.numel() >= LEAST
        and (grid.numel() == 1 or (axis is None and grid.shape == (len(x), *[1] * (x.ndim - 1))))
        and not is_in_torch_dispatch_mode()
        and fused_is_right()
    )


def fused_fake_quantize(x: Tensor, scale: Tensor, zero: Tensor, levels: int, axis: int | None = None) -> Tensor:
    """Computes `affine.fake_quantize` of x that `serves` accepts.

    Args:
        x: values.
        scale: s: one element, or (C, 1, ...).
        zero: Z, of the shape of `scale`.
        levels: 2^b.
        axis: None, or the dimension whose vectors have grids of their own: step s e and zero point Z e + m for the
            smallest value m and the extent e of a vector, see `affine.vector_range`.
    """
    result: Tensor = _Given.apply(x, scale, zero, levels, axis)
    return result


def fused_learned(x: Tensor, learned: Learned, levels: int, axis: int | None = None) -> Tensor:
    """Computes `fused_fake_quantize` with the grid of learned bounds and offsets, and their gradients."""
    parameters = learned.lower, learned.upper, learned.scale_offset, learned.zero_offset
    result: Tensor = _OfParameters.apply(x, *parameters, learned, levels, axis)
    return result


def learned_grids(learned: Sequence[Learned], levels: int) -> Tensor:
    """Computes s and Z of quantizers with one learned grid each, with their gradients; returns (quantizers, 2)."""
    result: Tensor = _Grids.apply(learned, levels, *(parameter for each in learned for parameter in each[:4]))
    return result


@lru_cache(maxsize=1)
def fused_is_right() -> bool:
    """Self-test: compares the kernel with the torch form; warns and returns False if it is wrong.

    Without kernels it returns False too.
    """
    if kernels() is None:
        return False
    with torch.inference_mode(False), torch.no_grad(), torch.device('cpu'):
        right = all(_agrees(shape, axis) for shape, axis in (((9, 701), None), ((37, 45), 1), ((3, 29, 83), 1)))
    return passed(right, 'Fake quantization')


def _agrees(shape: tuple[int, ...], axis: int | None) -> bool:
    from compsrt_basicsr.quant.functional.affine import dequantize, quantize, vector_range

    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=generator) for _ in range(2))
    s, z = torch.tensor(0.09), torch.tensor(0.1 if axis else -0.6)
    own_s, own_z, extent = s, z, torch.ones(())
    if axis is not None:
        smallest, extent = vector_range(x, axis)
        own_s, own_z = s * extent, z * extent + smallest
    y, _, call = _forward(x, s, z, 16, axis)
    grad_x, grad_s, grad_z = _backward(call, x, s, z, grad, True, True)
    assert grad_x is not None and grad_s is not None and grad_z is not None
    v = torch.sub(x, own_z).div_(own_s)
    clipped = v.clamp(0, 15)
    inside = (v > 0) & (v < 15)
    terms = [grad * torch.where(inside, clipped.round() - clipped, clipped) * extent, grad * ~inside * extent]
    close = [
        abs(float(mine) - float(own.double().sum())) <= _TOLERANCE * float(own.double().abs().sum())
        for mine, own in zip((grad_s, grad_z), terms)
    ]
    same = torch.equal(y, dequantize(quantize(x, own_s, own_z, 16), own_s, own_z))
    return same and torch.equal(grad_x, grad * inside) and all(close)


class _Call(NamedTuple):
    """How the elements of a dense tensor lie in memory, as `_Strict` has it, and how many units of work they are."""

    grids: int
    total: int
    n: int
    inner: int
    vectors: bool
    levels: int

    def on(self, scale: Tensor, zero: Tensor) -> _Strict:
        return _Strict(at(scale), at(zero), self.grids, self.total, self.n, self.inner, self.vectors, self.levels - 1)


class _Given(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, levels: int, axis: int | None) -> Tensor:
        scale, zero = scale.contiguous(), zero.contiguous()
        y, x, ctx.call = _forward(x, scale, zero, levels, axis)
        ctx.save_for_backward(x, scale, zero)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero = ctx.saved_tensors
        wants_x, *wants_grid = ctx.needs_input_grad[:3]
        return (*_backward(ctx.call, x, scale, zero, grad, wants_x, any(wants_grid)), None, None)


class _OfParameters(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        lower: Tensor,
        upper: Tensor,
        scale_offset: Tensor,
        zero_offset: Tensor,
        learned: Learned,
        levels: int,
        axis: int | None,
    ) -> Tensor:
        scale, zero = torch.empty_like(lower), torch.empty_like(lower)
        parameters = map(at, (lower, upper, scale_offset, zero_offset, learned.unit))
        _library().cs_learned_grids(*parameters, lower.numel(), levels - 1, learned.floor, at(scale), at(zero))
        y, x, ctx.call = _forward(x, scale, zero, levels, axis)
        ctx.save_for_backward(x, scale, zero, learned.unit)
        ctx.factor = learned.factor
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero, unit = ctx.saved_tensors
        wants_x, *wants_grid = ctx.needs_input_grad[:5]
        grad_x, of_scale, of_zero = _backward(ctx.call, x, scale, zero, grad, wants_x, any(wants_grid))
        if of_scale is None or of_zero is None:
            return (grad_x, *[None] * 7)
        # s = ((u - l) / top + alpha) unit, Z = (l + beta) unit
        of_offset, of_zero = of_scale.mul_(unit if ctx.factor == 1 else unit * ctx.factor), of_zero.mul_(unit)
        of_upper = of_offset / (ctx.call.levels - 1)
        gradients = of_zero - of_upper, of_upper, of_offset, of_zero
        return (grad_x, *(g if wanted else None for g, wanted in zip(gradients, wants_grid)), None, None, None)


class _Grids(Function):
    @staticmethod
    def forward(ctx: Any, learned: Sequence[Learned], levels: int, *parameters: Tensor) -> Tensor:
        lower, upper, scale_offset, zero_offset = torch.stack(parameters).view(-1, 4).unbind(1)
        unit = torch.stack([each.unit for each in learned])
        step = (upper - lower) / (levels - 1) + scale_offset
        floors = step.new_tensor([each.floor for each in learned])
        ctx.factors, ctx.levels = step.new_tensor([each.factor for each in learned]), levels
        ctx.save_for_backward(unit)
        scale = (step.maximum(floors) + (step - step)) * unit
        return torch.stack([scale, (lower + zero_offset) * unit], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (unit,) = ctx.saved_tensors
        of_scale, of_zero = grad.unbind(1)
        of_offset, of_zero = of_scale * unit * ctx.factors, of_zero * unit
        of_upper = of_offset / (ctx.levels - 1)
        gradients = torch.stack([of_zero - of_upper, of_upper, of_offset, of_zero], 1).view(-1).unbind()
        return None, None, *(g if wanted else None for g, wanted in zip(gradients, ctx.needs_input_grad[2:]))


def _forward(x: Tensor, scale: Tensor, zero: Tensor, levels: int, axis: int | None) -> tuple[Tensor, Tensor, _Call]:
    """Returns y, x as it was read, and the call that a gradient repeats."""
    x, call = _in_memory(x, scale.numel(), levels, axis)
    y = torch.empty_like(x)
    _run(call, scale, zero, 'cs_strict_run', at(x), at(y))
    return y, x, call


def _backward(
    call: _Call, x: Tensor, scale: Tensor, zero: Tensor, grad: Tensor, wants_x: bool, wants_grid: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Returns the gradients of x, s and Z that are wanted."""
    if grad.stride() != x.stride():
        grad = torch.empty_like(x).copy_(grad)
    grad_x = torch.empty_like(x) if wants_x else None
    if not wants_grid:
        _run(call, scale, zero, 'cs_strict_gradient', at(x), at(grad), at(grad_x), None)
        return grad_x, None, None
    units = _library().cs_strict_units(ctypes.byref(call.on(scale, zero)))
    sums = torch.empty(2 * units, dtype=torch.float64)
    _run(call, scale, zero, 'cs_strict_gradient', at(x), at(grad), at(grad_x), at(sums))
    of_scale, of_zero = torch.empty_like(scale), torch.empty_like(zero)
    _library().cs_strict_sums(ctypes.byref(call.on(scale, zero)), at(sums), at(of_scale), at(of_zero))
    return grad_x, of_scale, of_zero


def _run(call: _Call, scale: Tensor, zero: Tensor, name: str, *arguments: int | None) -> None:
    function, strict = getattr(_library(), name), call.on(scale, zero)
    run = partial(function, ctypes.byref(strict), *arguments)
    units = _library().cs_strict_units(ctypes.byref(strict))
    in_threads(run, units, max(1, units * _SHARE // max(call.total, 1)))


def _in_memory(x: Tensor, grids: int, levels: int, axis: int | None) -> tuple[Tensor, _Call]:
    """Returns x in dense memory, a copy only if it is not, and how a kernel goes through it."""
    total = x.numel()
    if grids > 1:
        x = x.contiguous()
        return x, _Call(grids, total, total // grids, 1, False, levels)
    if not (x.is_contiguous() or _is_dense(x)):
        x = x.contiguous()
    if axis is None:
        return x, _Call(1, total, _FLAT, 1, False, levels)
    n = x.shape[axis]
    return x, _Call(1, total, n, x.stride(axis) if n > 1 else 1, True, levels)


def _is_dense(x: Tensor) -> bool:
    """Returns whether the elements fill a stretch of memory, each once, in any order of the dimensions."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _library() -> Any:
    library = kernels()
    assert library is not None
    return library
