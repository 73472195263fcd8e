"""Keep masks by magnitude: True where a coefficient is kept, False where it is pruned to zero.

All functions are deterministic on every device: of equal magnitudes, the one with the smaller index is pruned first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def keep_largest(magnitudes: Tensor, pruned: int) -> Tensor:
    """Prunes exactly the `pruned` smallest entries.

    Args:
        magnitudes: any shape; NaN counts as the largest.
        pruned: number of entries to prune, 0 to all.

    Returns:
        Bool mask of the same shape, False for exactly `pruned` entries.
    """
    flat = magnitudes.detach().flatten()
    keep = torch.ones(flat.shape, dtype=torch.bool, device=flat.device)
    keep[torch.argsort(flat, stable=True)[:pruned]] = False
    return keep.view(magnitudes.shape)


def keep_unstructured(tensors: Sequence[Tensor], ratio: float) -> list[Tensor]:
    """Prunes exactly round(p N) of the N coefficients of all tensors together: those of smallest magnitude.

    Args:
        tensors: any shapes; they share one threshold.
        ratio: p, 0 to 1.

    Returns:
        One mask per tensor, of its shape.
    """
    return _keep_together([x.detach().abs() for x in tensors], ratio)


def keep_channels(tensors: Sequence[Tensor], ratio: float) -> list[Tensor]:
    """Prunes exactly round(p O) of the O output channels of all tensors together: those of smallest mean square.

    The mean, unlike the sum, is comparable between tensors of different width.

    Args:
        tensors: (O_i, ...) each; channels are the entries of the first dimension.
        ratio: p, 0 to 1.

    Returns:
        One mask per tensor, of its shape, constant within each channel.
    """
    rows = _keep_together([x.detach().flatten(1).square().mean(1) for x in tensors], ratio)
    return [row.view(-1, *[1] * (x.ndim - 1)).expand(x.shape).clone() for row, x in zip(rows, tensors)]


def keep_n_of_m(x: Tensor, n: int, m: int) -> Tensor:
    """Prunes by N:M sparsity along the second dimension, which linear layers and convolutions contract.

    Keeps the n largest of each group of m neighbours. If m does not divide the dimension, the last group is shorter and
    keeps at most n, as if padded with zeros.

    Args:
        x: (O, d) or (O, d, kh, kw).
        n, m: 1 <= n < m.

    Returns:
        Bool mask of the shape of x.
    """
    groups = x.detach().abs().movedim(1, -1)
    size = groups.shape[-1]
    padded = torch.nn.functional.pad(groups, (0, -size % m), value=-1.0)  # smaller than any magnitude: pruned first
    padded = padded.unflatten(-1, (-1, m))
    smallest = torch.argsort(padded, dim=-1, stable=True)[..., : m - n]
    keep = torch.ones_like(padded, dtype=torch.bool).scatter_(-1, smallest, False)
    return keep.flatten(-2)[..., :size].movedim(-1, 1).contiguous()


def _keep_together(magnitudes: list[Tensor], ratio: float) -> list[Tensor]:
    joined = torch.cat([x.flatten() for x in magnitudes])
    keep = keep_largest(joined, round(ratio * joined.numel()))
    return [part.view(x.shape) for part, x in zip(keep.split([x.numel() for x in magnitudes]), magnitudes)]
