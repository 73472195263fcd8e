"""The squared errors of many grids on the same values, without quantizing each value on each grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def squared_errors(values: Tensor, counts: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """Computes the sum of w (s q + Z - v)^2 over all values v, with the codes q of `quantize`, for K grids.

    In sorted order, values with the same code are neighbours: the sums of w, w v and w v^2 over them are differences of
    running sums. For M values this takes about K 2^b log M steps instead of K M.

    Args:
        values: v, (..., M), finite, in any order.
        counts: w, (..., M).
        scale, zero: step s > 0 and zero point Z, (..., K, 1).
        levels: 2^b.

    Returns:
        (..., K) float64.
    """
    values, order = values.double().sort(dim=-1)
    counts = counts.double().gather(-1, order)
    origin = values[..., :1]
    near = values - origin  # small, so that little cancels below
    step, start = scale.double(), zero.double() - origin[..., None]
    codes = torch.arange(levels, device=values.device, dtype=values.dtype)
    points, edges = start + step * codes, start + step * (codes[:-1] + 0.5)
    places = torch.searchsorted(near, edges.flatten(-2)).view(edges.shape)
    ends = F.pad(F.pad(places, (1, 0)), (0, 1), value=near.shape[-1])  # of the values of each code

    def sums(x: Tensor) -> Tensor:
        running = F.pad(x.cumsum(-1), (1, 0))
        return running.gather(-1, ends.flatten(-2)).view(ends.shape).diff()

    return (sums(counts * near.square()) + points * (points * sums(counts) - 2 * sums(counts * near))).sum(-1)
