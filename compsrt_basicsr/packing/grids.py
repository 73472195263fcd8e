"""The grids of quantizers as arrays, and back, without rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.affine import quantize
from compsrt_basicsr.quant.quantizer import Quantizer

# What inference needs. In paper range bounds and offsets stay apart, since values are clipped at the bounds.
FIELDS = {'strict': ('scale', 'zero'), 'paper': ('lower', 'upper', 'scale_offset', 'zero_offset')}


@torch.no_grad()
def read_grid(quantizer: Quantizer) -> Tensor:
    """Returns the rows of `FIELDS` for each of C grids, (2 or 4, C) float32.

    Raises:
        CompSRTError: if the quantizer is not calibrated, or its grid is not usable.
    """
    if not quantizer.is_calibrated:
        raise CompSRTError(f'Quantizer `{quantizer.name}` is not calibrated: calibrate the network first.')
    if quantizer.code_range == 'strict':
        rows = torch.stack([part.reshape(-1) for part in quantizer.grid()]).float()
    else:
        if not torch.equal(quantizer.unit, torch.ones_like(quantizer.unit)):
            raise CompSRTError(f'Quantizer `{quantizer.name}` is of the paper range, but its unit is not 1.')
        rows = torch.stack([getattr(quantizer, name).reshape(-1) for name in FIELDS['paper']]).float()
    return rows.detach().cpu()


@torch.no_grad()
def set_grid(quantizer: Quantizer, rows: Tensor) -> None:
    """Gives a quantizer exactly the grid that `read_grid` read, and marks it as calibrated.

    In strict range s and Z determine it. The unit becomes the power of two below s, so that dividing by it and
    multiplying with it are exact, and alpha takes what (u - l)/(2^b - 1) loses to rounding. On a symmetric grid the
    bounds are the whole numbers -k and 2^b - 1 - k, and alpha takes the rest of s.

    Args:
        quantizer: of the range and the number of grids that the rows have.
        rows: (2 or 4, C) float32.

    Raises:
        CompSRTError: if the numbers are not a grid.
    """
    shape = quantizer.lower.shape
    if quantizer.code_range == 'paper':
        for name, row in zip(FIELDS['paper'], rows):
            getattr(quantizer, name).copy_(row.view(shape))
        quantizer.unit.fill_(1.0)
        sound = bool(torch.isfinite(rows).all()) and bool((rows[0] <= rows[1]).all())
    else:
        scale, zero = (row.view(shape) for row in rows)
        sound = bool(torch.isfinite(rows).all()) and bool((scale > 0).all())
        if sound:
            _set_strict(quantizer, scale, zero)
    if not sound or not torch.equal(_stored(quantizer), rows):
        raise CompSRTError(f'The grid of quantizer `{quantizer.name}` is not usable: make the file again.')
    quantizer.mark_calibrated()


def _set_strict(quantizer: Quantizer, scale: Tensor, zero: Tensor) -> None:
    mantissa, exponent = torch.frexp(scale)
    step, unit = 2 * mantissa, torch.ldexp(torch.ones_like(scale), exponent - 1)  # step in [1, 2)
    lower = (zero / scale).round() if quantizer.symmetric else zero / unit
    upper = lower + (1 if quantizer.symmetric else step) * (quantizer.levels - 1)
    rounded = (upper - lower) / (quantizer.levels - 1)
    exact = rounded + (step - rounded) == step
    upper = torch.where(exact, upper, lower)  # a step that is lost beside Z: alpha alone holds it
    quantizer.unit.copy_(unit)
    quantizer.lower.copy_(lower)
    quantizer.upper.copy_(upper)
    quantizer.scale_offset.copy_(step - torch.where(exact, rounded, 0.0))
    quantizer.zero_offset.zero_()


def _stored(quantizer: Quantizer) -> Tensor:
    quantizer.mark_calibrated()
    return read_grid(quantizer).to(quantizer.lower.device)


@torch.no_grad()
def code_of_zero(quantizer: Quantizer) -> Tensor:
    """Returns the code that a coefficient of 0 gets, (C, 1) int32, C = 1 for one grid."""
    return quantizer.codes(torch.zeros(max(quantizer.lower.numel(), 1), 1, device=quantizer.lower.device)).cpu()


def needed_levels(quantizer: Quantizer, codes: Tensor) -> int:
    """Returns how many neighbouring codes a weight spans, the maximum over its grids: 2^b at most fit b bits.

    Args:
        quantizer: that of the weight.
        codes: integers, one or more rows for each grid.
    """
    smallest, largest = codes.reshape(max(quantizer.lower.numel(), 1), -1).aminmax(dim=1)
    return int((largest.long() - smallest.long()).max()) + 1


@torch.no_grad()
def possible_levels(quantizer: Quantizer) -> int:
    """Returns how many codes a quantizer can give, whatever its input: at most 2^b in strict range.

    In paper range values are clipped to [l, u], so that codes lie between those of the bounds.
    """
    if quantizer.code_range == 'strict':
        return quantizer.levels
    scale, zero = quantizer.grid()
    ends = [quantize(bound, scale, zero, None) for bound in quantizer.bounds()]
    return int((ends[1] - ends[0]).abs().max()) + 1
