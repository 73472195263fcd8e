"""The selective scan by the C++ kernel, forward and backward, on as many threads as torch uses."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from compsrt_basicsr.kernels.loaded import at, in_threads, kernels, passed
from compsrt_basicsr.scan.reference import scan_reference

_CHUNK = 64  # steps from one stored state to the next
_TOLERANCE = 1e-4  # of the self-test, relative to the largest value: float32 sums in another order


def scan_cpp(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    """Computes the selective scan of float32 tensors on the CPU; see `scan_reference`.

    For the gradient it stores a state every 64 steps and computes those between them again.
    """
    result: Tensor = _CppScan.apply(u, delta, a, b, c, skip, bias)
    return result


@lru_cache(maxsize=1)
def scan_is_right() -> bool:
    """Self-test: compares the kernel's scan and gradients with the reference; warns and returns False if it is wrong.

    Without kernels it returns False too.
    """
    if kernels() is None:
        return False
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 131, 11), (2, 131, 11), (11, 3), (2, 131, 3), (2, 131, 3), (11,), (11,)
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    values[2] = -values[2].exp()
    right = all(
        bool(torch.isfinite(mine).all()) and float((mine - other).abs().max()) <= _TOLERANCE * float(other.abs().max())
        for mine, other in zip(_with_gradients(scan_cpp, values), _with_gradients(scan_reference, values))
    )
    return passed(right, 'Selective scan')


def _with_gradients(function: Any, values: list[Tensor]) -> list[Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [value.clone().requires_grad_() for value in values]
        result = function(*leaves)
        return [result.detach(), *torch.autograd.grad(result.square().sum(), leaves)]


class _CppScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor
    ) -> Tensor:
        _check(u, delta, a, b, c, skip, bias)
        given = [x.contiguous() for x in (u, delta, a.T, b, c, skip, bias)]
        batch, length, channels = u.shape
        result = torch.empty_like(given[0])
        starts = None
        if any(ctx.needs_input_grad):
            starts = torch.empty(batch, -(-length // _CHUNK), a.shape[1], channels)
            ctx.save_for_backward(*given, starts)
        run = _library().cs_scan
        arguments = *map(at, given), length, channels, a.shape[1], _CHUNK, at(result), at(starts)
        in_threads(lambda begin, end: run(*arguments, begin, end), _units(batch, channels), 1)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        *given, starts = ctx.saved_tensors
        u, delta, a, b, c, skip, _ = given
        batch, length, channels = u.shape
        dy = dy.contiguous()
        written = [torch.empty_like(u), torch.empty_like(delta)]
        summed = []  # of each thread
        run = _library().cs_scan_gradient
        arguments = *map(at, given), length, channels, len(a), _CHUNK, at(dy), at(starts), *map(at, written)

        def part(begin: int, end: int) -> None:
            sums = [torch.zeros_like(x) for x in (a, b, c, skip)]
            summed.append(sums)
            run(*arguments, *map(at, sums), begin, end)

        in_threads(part, _units(batch, channels), 1)
        of_a, of_b, of_c, of_skip = (torch.stack(parts).sum(0) for parts in zip(*summed))
        return written[0], written[1], of_a.T, of_b, of_c, of_skip, written[1].sum((0, 1))


def _check(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor) -> None:
    """Checks what the kernel takes for granted."""
    (batch, length, channels), states = u.shape, a.shape[1]
    expected = [u.shape, u.shape, (channels, states), (batch, length, states), (batch, length, states)]
    expected += [(channels,), (channels,)]
    for x, shape in zip((u, delta, a, b, c, skip, bias), expected):
        if x.shape != shape or x.dtype != torch.float32 or x.device.type != 'cpu':
            raise RuntimeError(
                f'The scan got {tuple(x.shape)} ({x.dtype}, {x.device}), expected {tuple(shape)} float32.'
            )


def _library() -> Any:
    library = kernels()
    assert library is not None
    return library


def _units(batch: int, channels: int) -> int:
    """Returns how many blocks of channels there are in all sequences."""
    return batch * -(-channels // _library().cs_lanes())
