"""The quantizer module: learned bounds and offsets, and the grid that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.affine import (
    fake_quantize,
    fake_quantize_paper,
    quantize,
    scale_gradient,
    vector_grid,
    vector_range,
    zero_onto_grid,
)
from compsrt_basicsr.quant.functional.fused import (
    Learned,
    fused_fake_quantize,
    fused_learned,
    learned_grids,
    serves,
)

LEARNED = ('lower', 'upper', 'scale_offset', 'zero_offset')
STEP_FLOOR = 0.01  # smallest step s, in units of the calibrated step; training cannot go below it

Observer = Callable[['Quantizer', Tensor], object]  # sees an input; if it returns True, the input is quantized then


@dataclass(frozen=True)
class Arrival:
    """The observer that sets the grid of a quantizer when its input arrives, which is then quantized."""

    search: Callable[[Quantizer, Tensor], None]

    def __call__(self, quantizer: Quantizer, x: Tensor) -> bool:
        self.search(quantizer, x)
        return True


def unseen(quantizer: Quantizer, x: Tensor) -> None:
    """The observer that does not look: values stay in full precision."""


class Quantizer(nn.Module):
    """Fake quantization with learned bounds l (`lower`), u (`upper`) and offsets alpha, beta (`*_offset`).

    The grid (CompSRT, arXiv 2601.21069) is s = (u - l)/(2^b - 1) + alpha, Z = l + beta.

    The four parameters are stored in units of `unit`. In strict range, the unit is the step found by calibration: a
    learning rate means the same fraction of a step for every tensor. s never falls below `STEP_FLOOR` units; the
    gradient passes through this floor, so a step can leave it. In paper range, the unit is 1: bounds and learning rate
    are absolute, as published.

    Args:
        bits: b, 2 to 8.
        code_range: 'strict' or 'paper'.
        channels: None for one grid, or C for one grid per entry of the first dimension of a (C, K) tensor.
        name: dotted name in the network, for messages.
        zero_on_grid: move Z to the nearest -k s, so that code k stands for 0.0 (strict range; for pruned weights).
        symmetric: fix Z = -k s with k chosen by calibration (strict range): 0 for tensors without negative values,
            else 2^(b-1). l stays at -k units and beta at 0.
        learned: names of the parameters that training may change, out of `LEARNED`.
        lsq_gradient: divide the gradient of s by sqrt(N Q_P), for N elements and Q_P positive codes (LSQ, arXiv
            1902.08153).
        search_view: maps the input to what the bound search DOBI sees of it; None: all of it.
        vector_axis: None for one grid, or the dimension of the input whose vectors have grids of their own: bounds and
            grid are then those of the values mapped to [0, 1] by the smallest and the largest value of their vector.
    """

    unit: Tensor
    calibrated: Tensor

    def __init__(
        self,
        bits: int,
        code_range: str = 'strict',
        channels: int | None = None,
        name: str = '',
        zero_on_grid: bool = False,
        symmetric: bool = False,
        learned: tuple[str, ...] = LEARNED,
        lsq_gradient: bool = False,
        search_view: Callable[[Tensor], Tensor] | None = None,
        vector_axis: int | None = None,
    ) -> None:
        super().__init__()
        self.bits, self.code_range, self.name, self.zero_on_grid = bits, code_range, name, zero_on_grid
        self.symmetric, self.lsq_gradient, self.search_view = symmetric, lsq_gradient, search_view
        self.vector_axis = vector_axis
        self.learned = tuple(n for n in learned if not symmetric or n in ('upper', 'scale_offset'))
        shape = () if channels is None else (channels, 1)
        self.lower = nn.Parameter(torch.zeros(shape))
        self.upper = nn.Parameter(torch.full(shape, float(self.levels - 1)))
        self.scale_offset = nn.Parameter(torch.zeros(shape))
        self.zero_offset = nn.Parameter(torch.zeros(shape))
        self.register_buffer('unit', torch.ones(shape))
        self.register_buffer('calibrated', torch.tensor(False))
        self.is_calibrated = False  # mirrors the buffer: reading that would synchronize with the device
        self.observer: Observer | None = None

    @property
    def levels(self) -> int:
        """2^b."""
        return 2**self.bits

    def grid(self, elements: int | None = None) -> tuple[Tensor, Tensor]:
        """Computes step s and zero point Z in the tensor's own units, differentiable in the four parameters.

        Args:
            elements: N of `lsq_gradient`, the number of elements that share a step; None does not scale the gradient.

        Returns:
            s, Z: zero-dimensional, or (C, 1).
        """
        step = (self.upper - self.lower) / (self.levels - 1) + self.scale_offset
        step = _floor_step(step) if self.code_range == 'strict' else _away_from_zero(step)
        below: Any = self.lower.detach().round() if self.symmetric else 0.0  # -k
        if self.lsq_gradient and elements:
            step = scale_gradient(step, (elements * (self.levels - 1 + below)) ** -0.5)
        scale = step * self.unit
        if self.symmetric:
            return scale, below * scale
        zero = (self.lower + self.zero_offset) * self.unit
        return scale, zero_onto_grid(scale, zero, self.levels) if self.zero_on_grid else zero

    def grid_on(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes step and zero point for an input: those of `grid`, or one pair for each vector.

        Returns:
            s, Z: of the shape of `grid`, or of x with length 1 along `vector_axis`.
        """
        scale, zero = self.grid(x.numel() // self.lower.numel())
        if self.vector_axis is None:
            return scale, zero
        return vector_grid(scale, zero, x, self.vector_axis)

    def searched(self, x: Tensor) -> Tensor:
        """Returns the values that the bounds refer to: x, or its vectors, each mapped to [0, 1]."""
        if self.vector_axis is None:
            return x
        smallest, extent = vector_range(x, self.vector_axis)
        return (x - smallest) / extent

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Returns the bounds l, u in the tensor's own units."""
        return self.lower * self.unit, self.upper * self.unit

    def fit_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Widens bounds of any shape as little as possible so that the grid can have them: symmetric, or around 0."""
        if self.symmetric:
            top, half = self.levels - 1, self.levels // 2
            zero = torch.where(lower < 0, half, 0)
            step = torch.maximum(-lower / half, upper / (top - zero)).clamp_min(0)
            return -zero * step, (top - zero) * step
        return (lower.clamp_max(0), upper.clamp_min(0)) if self.zero_on_grid else (lower, upper)

    @torch.no_grad()
    def set_bounds(self, lower: Tensor, upper: Tensor) -> None:
        """Sets calibrated bounds, widened by `fit_bounds`, and resets alpha and beta to 0.

        A constant tensor (lower = upper) gets a step of 1e-6 of its magnitude, at least 1e-8, which float32 resolves.

        Args:
            lower, upper: one element each, or C, in the tensor's own units.

        Raises:
            CompSRTError: if a bound or their distance is not finite, or lower exceeds upper.
        """
        if not bool((torch.isfinite(upper - lower) & (lower <= upper)).all()):
            raise CompSRTError(
                f'Quantizer `{self.name}` cannot use the bounds {float(lower.min())} to {float(upper.max())}: '
                'check the weights and the calibration images for NaN and extreme values.'
            )
        lower, upper = self.fit_bounds(lower.reshape(self.lower.shape), upper.reshape(self.upper.shape))
        smallest = (1e-6 * torch.maximum(lower.abs(), upper.abs())).clamp_min(1e-8)
        upper = torch.maximum(upper, lower + smallest * (self.levels - 1))
        strict = self.code_range == 'strict'
        self.unit.copy_((upper - lower) / (self.levels - 1) if strict else torch.ones_like(upper))
        self.lower.copy_(lower / self.unit)
        self.upper.copy_(upper / self.unit)
        if self.symmetric:  # exactly -k and 2^b - 1 - k
            self.lower.round_()
            self.upper.copy_(self.lower + (self.levels - 1))
        self.scale_offset.zero_()
        self.zero_offset.zero_()
        self.mark_calibrated()

    def mark_calibrated(self) -> None:
        """Marks the current parameters as calibrated."""
        self.calibrated.fill_(True)
        self.is_calibrated = True

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Computes the integer codes of x, int32 of the shape of x; in strict range from 0 to 2^b - 1."""
        scale, zero = self.grid_on(x)
        if self.code_range == 'paper':
            x = torch.clamp(x, *self.bounds())
        return quantize(x, scale, zero, self.levels if self.code_range == 'strict' else None).to(torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantizes x, unless its observer keeps it as it is; returns float32 of the shape of x.

        Raises:
            CompSRTError: if the quantizer is not calibrated.
        """
        if not self.shows(x):
            return x
        if not self.is_calibrated:
            raise CompSRTError(
                f'Quantizer `{self.name}` is not calibrated: call `compsrt_basicsr.calibrate`, '
                'train with CompSRTModel, or load a calibrated checkpoint.'
            )
        x = x.float()
        if self.code_range == 'strict':
            return self._in_kernel(x) if serves(x, self.lower, self.vector_axis) else self._in_torch(x)
        return fake_quantize_paper(x, *self.bounds(), *self.grid_on(x))

    def _in_torch(self, x: Tensor) -> Tensor:
        return fake_quantize(x, *self.grid_on(x), self.levels)

    def _in_kernel(self, x: Tensor) -> Tensor:
        elements = x.numel() // self.lower.numel()
        if self.symmetric or self.zero_on_grid:
            return fused_fake_quantize(x, *self.grid(elements), self.levels, self.vector_axis)
        return fused_learned(x, self._learned(elements), self.levels, self.vector_axis)

    def _learned(self, elements: int) -> Learned:
        factor = (elements * (self.levels - 1)) ** -0.5 if self.lsq_gradient else 1.0
        parameters = self.lower, self.upper, self.scale_offset, self.zero_offset
        return Learned(*parameters, self.unit, STEP_FLOOR, factor)

    @property
    def is_plain(self) -> bool:
        """Whether a call does no more than quantize in strict range with one grid."""
        one = self.lower.numel() == 1 and self.vector_axis is None
        plain = self.observer is None and self.is_calibrated and not is_hooked(self)
        return self.code_range == 'strict' and one and plain

    def shows(self, x: Tensor) -> bool:
        """Shows an input to the observer, if there is one; returns whether it is to be quantized."""
        return self.observer is None or self.observer(self, x) is True

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Accepts full-precision checkpoints, which have no quantizers: the quantizer becomes uncalibrated."""
        own = [key for key in state_dict if key.startswith(prefix)]
        if own:
            super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        else:
            self.calibrated.fill_(False)
        self.is_calibrated = bool(self.calibrated)

    def extra_repr(self) -> str:
        return f'bits={self.bits}, code_range={self.code_range}'


def _floor_step(step: Tensor) -> Tensor:
    """Computes max(step, STEP_FLOOR) with the gradient of the identity."""
    return step.detach().clamp_min(STEP_FLOOR) + (step - step.detach())  # this order is exact for huge |step| too


def _away_from_zero(step: Tensor) -> Tensor:
    """Moves |step| < 1e-8 to +-1e-8. Otherwise training may drive the published step through zero."""
    tiny = torch.where(step < 0, -1e-8, 1e-8)
    return torch.where(step.abs() < 1e-8, tiny, step)


def is_hooked(module: nn.Module) -> bool:
    """Returns whether a hook waits for calls of a module, or its `forward` was replaced, as an export does."""
    m = module
    hooks = m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks
    return any(hooks) or 'forward' in vars(m)


def grids_of(quantizers: Sequence[Quantizer], elements: Sequence[int]) -> Tensor:
    """Computes the grids of quantizers with `is_plain` and as many levels, differentiable in their parameters.

    Args:
        quantizers: the quantizers.
        elements: how many values each quantizes, see `Quantizer.grid`.

    Returns:
        (quantizers, 2): s and Z of each.
    """
    pairs = list(zip(quantizers, elements))
    if any(quantizer.symmetric or quantizer.zero_on_grid for quantizer in quantizers):
        return torch.stack([torch.stack(quantizer.grid(count)) for quantizer, count in pairs])
    return learned_grids([quantizer._learned(count) for quantizer, count in pairs], quantizers[0].levels)


def quantizers(network: nn.Module) -> dict[str, Quantizer]:
    """Returns all quantizers of a network by dotted name, in definition order."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Quantizer)}
