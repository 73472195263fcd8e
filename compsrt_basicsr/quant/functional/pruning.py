"""Keep masks by magnitude: True where a coefficient is kept, False where it is pruned to zero.

Every function is deterministic: of equal magnitudes the one with the smaller index is pruned first, on any device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def keep_largest(magnitudes: Tensor, pruned: int) -> Tensor:
    """Prunes exactly the `pruned` smallest entries.

    Args:
        magnitudes: any shape; NaN counts as the largest.
        pruned: how many to prune, 0 to the number of entries.

    Returns:
        Bool mask of the same shape, with exactly `pruned` times False.
    """
    flat = magnitudes.detach().flatten()
    keep = torch.ones(flat.shape, dtype=torch.bool, device=flat.device)
    keep[torch.argsort(flat, stable=True)[:pruned]] = False
    return keep.view(magnitudes.shape)


def keep_unstructured(tensors: Sequence[Tensor], ratio: float) -> list[Tensor]:
    """Prunes exactly round(p N) of the N coefficients of all tensors together, those of least magnitude.

    Args:
        tensors: any shapes; one for a threshold of its own, many for a threshold that they share.
        ratio: p, 0 to 1.

    Returns:
        One mask for each tensor, of its shape.
    """
    return _keep_together([x.detach().abs() for x in tensors], ratio)


def keep_channels(tensors: Sequence[Tensor], ratio: float) -> list[Tensor]:
    """Prunes exactly round(p O) of the O output channels of all tensors together, those of least mean square.

    The mean, not the sum, so that channels of tensors with different widths compare.

    Args:
        tensors: (O_i, ...) each; channels are the entries of the first dimension.
        ratio: p, 0 to 1.

    Returns:
        One mask for each tensor, of its shape, constant within each channel.
    """
    rows = _keep_together([x.detach().flatten(1).square().mean(1) for x in tensors], ratio)
    return [row.view(-1, *[1] * (x.ndim - 1)).expand(x.shape).clone() for row, x in zip(rows, tensors)]


def keep_n_of_m(x: Tensor, n: int, m: int) -> Tensor:
    """N:M sparsity along the second dimension, which a linear layer and a convolution contract.

    Of each group of m neighbours the n largest stay, so that (m - n) O n_groups coefficients are pruned. Where m does
    not divide the dimension, the last group is short and keeps at most n like the others, as if padded with zeros.

    Args:
        x: (O, d) or (O, d, kh, kw).
        n, m: 1 <= n < m.

    Returns:
        Bool mask of x's shape.
    """
    groups = x.detach().abs().movedim(1, -1)
    size = groups.shape[-1]
    padded = torch.nn.functional.pad(groups, (0, -size % m), value=-1.0)  # below every magnitude: pruned first
    padded = padded.unflatten(-1, (-1, m))
    smallest = torch.argsort(padded, dim=-1, stable=True)[..., : m - n]
    keep = torch.ones_like(padded, dtype=torch.bool).scatter_(-1, smallest, False)
    return keep.flatten(-2)[..., :size].movedim(-1, 1).contiguous()


def _keep_together(magnitudes: list[Tensor], ratio: float) -> list[Tensor]:
    joined = torch.cat([x.flatten() for x in magnitudes])
    keep = keep_largest(joined, round(ratio * joined.numel()))
    return [part.view(x.shape) for part, x in zip(keep.split([x.numel() for x in magnitudes]), magnitudes)]
