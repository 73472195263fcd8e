"""Executor of convolutions in full precision: in the kernels, which need fewer multiplications than torch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.integer.cpp_kernels import CppHandle
from compsrt_basicsr.integer.execution import Executor, executes, on_cpu
from compsrt_basicsr.kernels.loaded import at, in_threads, kernels, passed

LEAST_WEIGHTS = 1024  # input channels times output channels; torch is faster below
_POINTS = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))  # G of Winograd's F(2x2, 3x3)


class CppConvolution(CppHandle):
    """A convolution of 3x3 pixels with stride 1 and a border of zeros.

    Args:
        library: the kernels.
        weight: (O, C, 3, 3).
        bias: (O,) or None.
    """

    def __init__(self, library: ctypes.CDLL, weight: Tensor, bias: Tensor | None) -> None:
        self.out, self.channels = weight.shape[:2]
        points, weight = torch.tensor(_POINTS, dtype=torch.float64), weight.detach().double()
        transformed = torch.einsum('ia,jb,ocab->ijoc', points, points, weight).float().contiguous()
        added = torch.zeros(self.out) if bias is None else bias.detach().float().contiguous()
        super().__init__(library, 'convolution', self.channels, self.out, at(transformed), at(added))

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) float32 to (B, O, H, W)."""
        if x.ndim != 4 or x.shape[1] != self.channels or x.dtype != torch.float32:
            raise RuntimeError(f'The input has shape {tuple(x.shape)}, expected (B, {self.channels}, H, W) float32.')
        x = x.contiguous()
        batch, _, height, width = x.shape
        out = torch.empty(batch, self.out, height, width)
        run = self.cdll.cs_convolution_run
        pairs = batch * ((height + 1) // 2)
        in_threads(lambda i, j: run(self.pointer, at(x), at(out), height, width, i, j), pairs, 4)
        return out


@lru_cache(maxsize=64)
def convolution_is_right(channels: int, out: int) -> bool:
    """Self-test: compares the kernels with torch at this size and warns if they are wrong."""
    library = kernels()
    if library is None:
        return False
    generator = torch.Generator().manual_seed(channels * 10_007 + out)
    with torch.inference_mode(False), torch.no_grad(), torch.device('cpu'):
        x, weight = (torch.randn(size, generator=generator) for size in ((1, channels, 7, 70), (out, channels, 3, 3)))
        expected = F.conv2d(x.double(), weight.double(), padding=1)
        difference = CppConvolution(library, weight, None)(x) - expected
    right = bool(difference.abs().max() <= 1e-5 * expected.abs().max())
    return passed(right, f'Convolution ({channels} to {out})')


@executes(nn.Conv2d)
class ConvolutionExecutor(Executor):
    """Runs a convolution of 3x3 pixels in full precision in the kernels."""

    reported = False

    @classmethod
    def obstacle(cls, module: Any) -> str | None:
        plain = module.kernel_size == (3, 3) and module.padding in ((1, 1), 'same') and module.padding_mode == 'zeros'
        if not plain or module.groups != 1 or module.stride != (1, 1) or module.dilation != (1, 1):
            return 'another kind of convolution'
        if module.in_channels * module.out_channels < LEAST_WEIGHTS or module.weight.dtype != torch.float32:
            return 'torch is faster'
        fit = on_cpu(module) and convolution_is_right(module.in_channels, module.out_channels)
        return None if fit else 'no kernels'

    def _applies(self, *inputs: Tensor, modules: list[nn.Module] | None = None) -> bool:
        given = (*inputs, self.module.weight)  # the network may have been moved since
        return all(t.is_cpu and t.dtype == torch.float32 for t in given) and super()._applies(*inputs, modules=modules)

    def prepare(self) -> Callable[[Tensor], Tensor]:
        library = kernels()
        assert library is not None
        return CppConvolution(library, self.module.weight, self.module.bias)

    def run(self, prepared: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return prepared(x) if x.ndim == 4 else type(self.module).forward(self.module, x)
