"""Orthogonal transforms of the last dimension, as cached matrices: x_h = x @ T.

A transform of d coefficients is a matrix T of shape (d, n) with orthonormal rows, T T^T = I. Exact transforms have
n = d: (x T)(w T)^T = x w^T, so no inverse is needed. The published transform (CompSRT, arXiv 2601.21069) pads d
coefficients with zeros to n = 2^k; `x @ H[:d]` computes the same without the padding.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from compsrt_basicsr.config.quant import TRANSFORMS
from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.quant.functional.hadamard import (
    conference_exists,
    conference_matrix,
    hadamard_construction,
    hadamard_matrix,
)

BLOCKS = range(12, 21)  # orders of the blocks of 'blocks'; smaller ones spread values less, larger ones cost more


def resolve_transform(kind: str, order: int) -> str:
    """Resolves 'auto' to the exact transform of an order: Hadamard if it exists, else conference, else DCT.

    'blocks' is 'auto' where no Hadamard matrices of `BLOCKS` fill the order.

    Raises:
        CompSRTError: if the kind is unknown. The message names the nearest known kind.
    """
    if kind not in TRANSFORMS:
        raise CompSRTError(
            f'`transform` must be one of {", ".join(TRANSFORMS)}, got {kind!r}.{suggestion(kind, TRANSFORMS)}'
        )
    if kind == 'blocks' and not block_order(order):
        kind = 'auto'
    if kind != 'auto':
        return kind
    if hadamard_construction(order):
        return 'hadamard'
    return 'conference' if conference_exists(order) else 'dct'


def block_order(order: int) -> int | None:
    """Returns the largest order of `BLOCKS` that has a Hadamard matrix and divides an order; None if there is none."""
    return next((b for b in reversed(BLOCKS) if order % b == 0 and hadamard_construction(b)), None)


@lru_cache(maxsize=256)
def transform_matrix(
    kind: str,
    order: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Builds the matrix of an orthogonal transform in float64. The result is cached.

    Args:
        kind: 'hadamard', 'blocks' (block-diagonal, the same Hadamard matrix again and again), 'conference', 'padded'
            (zero-padded Sylvester), 'dct' (DCT-II), 'random' (Haar-distributed orthogonal), 'none' (identity) or
            'auto' (see `resolve_transform`).
        order: d, the number of coefficients, at least 1.
        seed: seed of 'random'; other kinds ignore it.
        dtype: floating dtype of the result.
        device: device of the result.

    Returns:
        (order, n) with orthonormal rows. n = order, except for 'padded', where n is the next power of two. The tensor
        is shared between callers: do not modify it.

    Raises:
        CompSRTError: if the kind is unknown, the order is below 1, or the kind has no matrix of this order.
    """
    if order < 1:
        raise CompSRTError(f'The order of a transform must be at least 1, got {order}.')
    if (dtype, torch.device(device)) != (torch.float64, torch.device('cpu')):
        return transform_matrix(kind, order, seed).to(device=device, dtype=dtype)
    kind = resolve_transform(kind, order)
    if kind == 'hadamard':
        return hadamard_matrix(order) / math.sqrt(order)
    if kind == 'blocks':
        block = transform_matrix('hadamard', block_order(order) or order)
        return torch.block_diag(*[block] * (order // len(block)))
    if kind == 'conference':
        return conference_matrix(order) / math.sqrt(order - 1)
    if kind == 'padded':
        n = 1 << (order - 1).bit_length()
        return (hadamard_matrix(n) / math.sqrt(n))[:order].clone()
    if kind == 'dct':
        return _dct_matrix(order)
    if kind == 'random':
        return _random_orthogonal(order, seed)
    return torch.eye(order, dtype=torch.float64)


def _dct_matrix(order: int) -> Tensor:
    """Builds the orthonormal DCT-II basis: column k is sqrt(2/n) cos(pi (i + 1/2) k / n), column 0 is sqrt(1/n)."""
    i = torch.arange(order, dtype=torch.float64)[:, None]
    k = torch.arange(order, dtype=torch.float64)[None, :]
    basis = torch.cos(math.pi * (i + 0.5) * k / order) * math.sqrt(2.0 / order)
    basis[:, 0] = math.sqrt(1.0 / order)
    return basis


def _random_orthogonal(order: int, seed: int) -> Tensor:
    """Draws a Haar-distributed orthogonal matrix: QR of a seeded Gaussian, with the signs of R's diagonal in Q."""
    gaussian = torch.randn(order, order, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q, r = torch.linalg.qr(gaussian)
    return q * torch.sign(torch.diagonal(r))
