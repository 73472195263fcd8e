"""Search for a quantizer's bounds on its input: DOBI on a histogram, minimum and maximum, percentiles, LSQ, LSQ+."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.quant.functional.affine import dequantize, quantize, zero_onto_grid
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.utils.made_once import made_once

BINS = 8192
CHUNK = 2**22  # values of candidates that are compared at once
VALUES = 2**18  # of a tensor that a histogram counts in strict range; more did not change the results


def search_bounds(
    x: Tensor, quantizer: Quantizer, config: CalibrationConfig, keep: Tensor | None = None, of_weight: bool = False
) -> tuple[Tensor, Tensor]:
    """Finds the bounds of one quantizer for its input tensor.

    DOBI sees the quantizer's `search_view` of it, except where weights are pruned: the published rows of zeros are then
    among the pruned ones. If the input are pixels of 8-bit images, DOBI gives an 8-bit grid their whole range: the grid
    then represents all images exactly.

    Args:
        x: any shape; (C, K) for a quantizer with one grid per channel.
        quantizer: determines the number of levels and of grids.
        config: method, search and number of candidates.
        keep: bool mask with as many elements as x. The search sees only the kept elements; the bounds of a channel
            without any are 0.
        of_weight: whether x is a weight; LSQ+ treats weights and activations differently.

    Returns:
        lower, upper: (1,) each, or (C,).
    """
    x, is_whole = quantizer.searched(x), quantizer.vector_axis is None
    byte = quantizer.bits == 8 and quantizer.code_range == 'strict' and is_whole and not of_weight
    if config.method == 'dobi' and byte and (largest := pixel_range(x)):
        return x.new_zeros(1), x.new_full((1,), largest)
    if config.method == 'dobi' and quantizer.search_view is not None and (keep is None or bool(keep.all())):
        x, keep = quantizer.search_view(x), None
    rows = x.detach().float().reshape(max(quantizer.lower.numel(), 1), -1)
    if config.method == 'dobi' and keep is None and len(rows) > 1 and rows.shape[1] <= BINS:
        return _bounds_of_rows(rows, quantizer, config)
    kept = rows if keep is None else [row[mask] for row, mask in zip(rows, keep.reshape(rows.shape))]
    lower, upper = zip(*(_row_bounds(row, quantizer, config, of_weight) for row in kept))
    return torch.stack(lower), torch.stack(upper)


def _bounds_of_rows(rows: Tensor, quantizer: Quantizer, config: CalibrationConfig) -> tuple[Tensor, Tensor]:
    """Searches the bounds of many short rows (C, K) at once; returns (C,) each."""
    smallest, largest = rows.aminmax(dim=1)
    searched = torch.isfinite(largest - smallest) & (largest > smallest)  # the caller handles all others
    chosen = rows[searched]
    size = max(CHUNK // (config.candidates * rows.shape[1]), 1)
    for place, part in zip(searched.nonzero()[:, 0].split(size), chosen.split(size)):
        smallest[place], largest[place] = dobi(part, torch.ones_like(part), quantizer, config)
    return smallest, largest


def _row_bounds(row: Tensor, quantizer: Quantizer, config: CalibrationConfig, of_weight: bool) -> tuple[Tensor, Tensor]:
    if not row.numel():
        return row.new_zeros(()), row.new_zeros(())
    smallest, largest = row.aminmax()
    if config.method == 'minmax' or not bool(torch.isfinite(largest - smallest) & (largest > smallest)):
        return smallest, largest  # the caller handles constants, NaN and infinity
    if config.method == 'percentile':
        return percentile_bounds(row, config.percentile)
    if config.method == 'lsq':
        return lsq_bounds(row, quantizer.levels)
    if config.method == 'lsq+' and of_weight:
        return three_sigma_bounds(row, quantizer.levels)
    return dobi(*_weighted_values(row, quantizer.code_range == 'strict'), quantizer, config)


def pixel_range(x: Tensor) -> float | None:
    """Returns the largest value of 8-bit pixels, 1.0 or 255.0, if all values may be such pixels, else None."""
    smallest, largest = x.detach().aminmax()
    top = 1.0 if largest <= 1 else 255.0
    if not bool((smallest >= 0) & (largest > smallest) & (largest <= top) & (largest > top / 256)):
        return None
    codes = x.detach().float() * (255 / top)
    return top if bool((codes - codes.round()).abs().amax() < 1e-3) else None


def percentile_bounds(values: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """Returns the (100 - p)-th and the p-th percentile, with linear interpolation.

    Args:
        values: (M,), of any size.
        percentile: p, above 50 to 100.

    Returns:
        lower, upper: zero-dimensional.
    """
    ends = np.percentile(values.cpu().numpy(), [100 - percentile, percentile])  # torch.quantile takes only 2^24 values
    lower, upper = values.new_tensor(ends)
    return lower, upper


def three_sigma_bounds(values: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Returns the bounds of LSQ+'s initial step for weights (arXiv 2004.09576), on a symmetric grid.

    s = max(|mean - 3 sigma|, |mean + 3 sigma|) / 2^(b-1), codes -2^(b-1) to 2^(b-1) - 1.

    Args:
        values: (M,).
        levels: 2^b.

    Returns:
        lower, upper: zero-dimensional.
    """
    sigma, mean = torch.std_mean(values, correction=0)
    step = (mean.abs() + 3 * sigma) / (levels // 2)
    return -(levels // 2) * step, (levels // 2 - 1) * step


def lsq_bounds(values: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Returns the bounds of LSQ's initial step (arXiv 1902.08153), s = 2 mean|v| / sqrt(Q_P).

    Tensors without negative values get the codes 0 to Q_P = 2^b - 1, all others -2^(b-1) to Q_P = 2^(b-1) - 1.

    Args:
        values: (M,).
        levels: 2^b.

    Returns:
        lower, upper: zero-dimensional.
    """
    below = levels // 2 if bool(values.amin() < 0) else 0
    above = levels - 1 - below
    step = 2 * values.abs().mean() / above**0.5
    return -below * step, above * step


def candidate_bounds(
    smallest: Tensor, largest: Tensor, one_sided: Tensor | bool, candidates: int
) -> tuple[Tensor, Tensor]:
    """Lists the K candidate pairs: l = min + i d, u = max - i d with d = (max - min)/(2K), i = 0 to K - 1.

    One-sided: l = min, u = max - 2 i d.

    Args:
        smallest, largest: (...).
        one_sided: (...), or one for all.
        candidates: K.

    Returns:
        lower, upper: (..., K, 1) each.
    """
    smallest, largest = smallest[..., None, None], largest[..., None, None]
    above = torch.as_tensor(one_sided, device=smallest.device)[..., None, None].to(smallest.dtype)
    step = torch.arange(candidates, device=smallest.device, dtype=smallest.dtype)[:, None]
    move = step * (largest - smallest) / (2 * candidates)
    return smallest + (1 - above) * move, largest - (1 + above) * move


def dobi(values: Tensor, counts: Tensor, quantizer: Quantizer, config: CalibrationConfig) -> tuple[Tensor, Tensor]:
    """Selects the candidate pair with the smallest squared quantization error (DOBI of 2DQuant, arXiv 2406.06649).

    Args:
        values: (..., M), in any order: the values themselves, or the bin centres of a histogram.
        counts: (..., M), how often each value occurs.
        quantizer: defines the grid that follows from a candidate pair.
        config: search and number of candidates.

    Returns:
        lower, upper: (...).
    """
    one_sided = config.search == 'one' or (config.search == 'auto' and _mode_is_smallest(values, counts))
    lower, upper = candidate_bounds(*values.aminmax(dim=-1), one_sided, config.candidates)
    lower, upper, levels = *quantizer.fit_bounds(lower, upper), quantizer.levels
    scale = (upper - lower) / (levels - 1)
    zero = zero_onto_grid(scale, lower, levels) if quantizer.zero_on_grid else lower
    values = values[..., None, :]
    error = dequantize(quantize(values, scale, zero, levels), scale, zero).sub_(values).square_() @ counts[..., None]
    best = error.argmin(-2, keepdim=True)
    return tuple(bound.gather(-2, best)[..., 0, 0] for bound in (lower, upper))  # type: ignore[return-value]


def _weighted_values(row: Tensor, sampled: bool) -> tuple[Tensor, Tensor]:
    """Returns the values of a small tensor, or the centres and counts of the non-empty bins of a large one.

    The bins span the whole range of the tensor even if only a sample of its values is counted.
    """
    if row.numel() <= BINS:
        return row, torch.ones_like(row)
    smallest, largest = row.aminmax()
    if sampled and row.numel() > VALUES:
        row = row[_sample(row.numel(), VALUES, row.device)]
    places = torch.sub(row, smallest).div_(largest - smallest).mul_(BINS).long().clamp_(0, BINS - 1)
    counts = torch.bincount(places, minlength=BINS).to(row.dtype)
    counts[[0, -1]] = counts[[0, -1]].clamp_min(1)
    return bin_values(counts, smallest, largest)


@made_once(16)
def _sample(total: int, count: int, device: torch.device) -> Tensor:
    """Draws `count` of `total` places with replacement, in order, so that memory is read in order."""
    generator = torch.Generator(device).manual_seed(0)
    return torch.randint(total, (count,), generator=generator, device=device).sort().values


def bin_values(counts: Tensor, smallest: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Converts a histogram over the exact range of a tensor to the values and counts that `dobi` takes.

    Args:
        counts: (bins,), bins of equal width; the first and the last are not empty.
        smallest, largest: the range.

    Returns:
        Centres and counts of the non-empty bins. The first and last centre are the ends of the range, so the candidate
        bounds are exact.
    """
    bins = len(counts)
    centres = smallest + (torch.arange(bins, device=counts.device) + 0.5) * ((largest - smallest) / bins)
    centres[0], centres[-1] = smallest, largest
    filled = counts > 0
    return centres[filled], counts[filled]


def _mode_is_smallest(values: Tensor, counts: Tensor) -> Tensor:
    """Returns whether the lowest of 64 equal cells of the range holds the most values: (..., M) to (...)."""
    cells = 64
    smallest, largest = values.aminmax(dim=-1, keepdim=True)
    position = ((values - smallest) / (largest - smallest) * cells).long().clamp_(max=cells - 1)
    mass = counts.new_zeros(*counts.shape[:-1], cells).scatter_add_(-1, position, counts)
    return mass.argmax(-1) == 0
